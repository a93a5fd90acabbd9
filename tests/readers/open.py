"""Opens a version and its exports with stock readers only. usage: open.py EXPORTS MEMBERS VERSION"""
import json
import pathlib
import sys

import pyarrow.parquet as parquet
import webdataset

exports, members, version = pathlib.Path(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])

table = parquet.read_table(exports / "parquet" / "manifest.parquet")
assert table.num_rows == members, (table.num_rows, members)
images = table.column("image").to_pylist()
assert len(set(images)) == members, "an image is listed twice"

shards = sorted(str(p) for p in (exports / "webdataset").glob("*.tar"))
assert shards, "no shards"
seen = set()
for sample in webdataset.WebDataset(shards, shardshuffle=False, empty_check=False):
    assert sample["jpg"][:2] == b"\xff\xd8" and sample["jpg"][-2:] == b"\xff\xd9", "not a whole JPEG"
    assert b"Exif" not in sample["jpg"], "metadata was published"
    assert json.loads(sample["json"])["labels"], sample["__key__"]
    seen.add(sample["__key__"].split("/")[-1])
assert seen == set(images), (len(seen), members)

files = list((exports / "image-folder").glob("*/*/*.jpg"))
assert {f.stem for f in files} == set(images), len(files)

import mlcroissant  # last: it is slow to import


def count(folder, record_set):
    dataset = mlcroissant.Dataset(jsonld=folder / "croissant.json")  # raises on a description that does not hold
    return sum(1 for _ in dataset.records(record_set))


for folder in (version, exports / "webdataset", exports / "parquet", exports / "image-folder"):
    assert count(folder, "photos") == members, folder
    assert count(folder, "splits") == 3, folder
for folder in (version, exports / "webdataset"):
    assert count(folder, "pictures") == members, folder
print(f"{members} members open in pyarrow, webdataset and mlcroissant")
