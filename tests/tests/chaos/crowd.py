"""Small photos as a crowd of devices sends them: shots of the demo's photos, repeats, retransmissions, broken files.

Arguments: folder to write to, folder of photos, number of uploads, seed. Writes the files and `labels.csv` in order of sending.
"""
import csv, io, os, random, sys

import numpy as np
from PIL import Image

to, photos, uploads, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rng = random.Random(seed)


def photo(row):
    picture = Image.open(os.path.join(photos, row['file'])).convert('RGB')
    share = min(1, 512 / min(picture.size))
    return picture.resize([round(side * share) for side in picture.size], Image.LANCZOS), row['label']


def jpeg(picture, quality):
    out = io.BytesIO()
    picture.save(out, 'JPEG', quality=quality)
    return out.getvalue()


def shot(picture):
    """A tilted, skewed frame of the photo, in other light."""
    share, aspect = rng.uniform(.55, .85) ** .5, rng.uniform(.8, 1.25) ** .5
    width, height = picture.width * min(1, share * aspect), picture.height * min(1, share / aspect)
    x, y = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - height)
    skew = lambda at, side, most: min(max(at + rng.uniform(-.08, .08) * side, 0), most)
    corners = [(x, y), (x, y + height), (x + width, y + height), (x + width, y)]
    quad = [v for cx, cy in corners for v in (skew(cx, width, picture.width - 1), skew(cy, height, picture.height - 1))]
    side = rng.choice([224, 256, 288]) / max(width, height)
    framed = picture.transform((round(width * side), round(height * side)), Image.QUAD, quad, Image.BICUBIC)
    pixels = np.asarray(framed, np.float32) * [rng.uniform(.75, 1.25) * rng.uniform(.9, 1.1) for _ in range(3)]
    pixels += np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(.5, 5), pixels.shape)
    return jpeg(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), rng.randint(60, 95))


def edited(data):
    picture = Image.open(io.BytesIO(data))
    how = rng.randrange(4)
    if how == 0:
        return jpeg(picture, 40)
    if how == 1:
        return jpeg(picture.resize((picture.width * 2 // 3, picture.height * 2 // 3), Image.LANCZOS), 85)
    if how == 2:
        return jpeg(picture.transpose(Image.FLIP_LEFT_RIGHT), 85)
    x, y = picture.width // 20, picture.height // 20
    return jpeg(picture.crop((x, y, picture.width - x, picture.height - y)), 85)


def broken(data):
    how = rng.randrange(4)
    if how == 0:
        return data[:len(data) // 2]
    if how == 1:
        return rng.randbytes(4000)
    if how == 2:
        return jpeg(Image.new('RGB', (224, 224), (128, 128, 128)), 85)
    return jpeg(Image.open(io.BytesIO(data)).point(lambda level: level // 12), 85)


subjects = [photo(row) for row in csv.DictReader(open(os.path.join(photos, 'labels.csv')))]
labels, shots, sendings = sorted({label for _, label in subjects}), [], []
for n in range(uploads):
    draw, device = rng.random(), 'device-%03d' % rng.randint(1, 8)
    if shots and draw < .14:
        data, label, before = rng.choice(shots[-200:])
        data, device = (edited(data), device) if draw < .10 else (data, before)
    else:
        picture, label = rng.choice(subjects)
        data = shot(picture)
        if draw >= .94:
            data = broken(data)
        else:
            label = rng.choice(labels) if rng.random() < .04 else label
            shots.append((data, label, device))
    late = rng.randint(2, 60) if rng.random() < .10 else 0
    sendings.append((n + late, '%06d.jpg' % (n + 1), label, device))
    with open(os.path.join(to, sendings[-1][1]), 'wb') as out:
        out.write(data)
with open(os.path.join(to, 'labels.csv'), 'w') as out:
    print('file,label,device', file=out)
    for _, *row in sorted(sendings, key=lambda sending: sending[0]):
        print(','.join(row), file=out)
