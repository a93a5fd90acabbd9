"""Opens an exported version with stock readers only. usage: open.py EXPORTS MEMBERS VERSION"""
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

croissant = mlcroissant.Dataset(jsonld=version / "croissant.json")
assert croissant.metadata.name
records = croissant.records("photos")
assert sum(1 for _ in records) == members
print(f"{members} members open in pyarrow, webdataset and mlcroissant")
