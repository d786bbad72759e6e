"""Tiny data sets in the true layouts, written by the tests that read them."""

import csv
import json
import pickle

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 48, 64


def rectangle(x0, y0, x1, y1, size=(HEIGHT, WIDTH)):
    """A mask, bool [height, width], of pixels x0 <= x < x1, y0 <= y < y1."""
    mask = np.zeros(size, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


LEFT, RIGHT, LOW = (4, 8, 24, 40), (36, 8, 60, 40), (8, 42, 56, 46)


def corners(box):
    """The polygon of a box whose pixels the COCO API draws as `rectangle` does."""
    x0, y0, x1, y1 = box
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def xywh(box):
    x0, y0, x1, y1 = box
    return [x0, y0, x1 - x0, y1 - y0]


def write_image(path, size=(HEIGHT, WIDTH), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def write_map(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype=np.uint8)).save(path)


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def runs_of(mask):
    """COCO's plain run lengths."""
    flat = mask.ravel(order="F").astype(int)
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def coco_file(images, annotations, categories=("cat", "dog")):
    """A COCO file: `images` are ids, `annotations` are (id, image id, category, box or segmentation)."""
    return {
        "info": {"description": "tiny", "nested": {"list": [1, {"a": "]"}]}},
        "images": [
            {"id": image, "file_name": f"{image:012d}.jpg", "height": HEIGHT, "width": WIDTH}
            for image in images
        ],
        "annotations": [
            {
                "id": key,
                "image_id": image,
                "category_id": 1 + list(categories).index(category),
                "iscrowd": 0,
                "segmentation": [corners(shape)] if isinstance(shape, tuple) else shape,
                **({"bbox": xywh(shape)} if isinstance(shape, tuple) else {}),
            }
            for key, image, category, shape in annotations
        ],
        "categories": [{"id": 1 + index, "name": name} for index, name in enumerate(categories)],
    }


def reference(ref_id, ann_id, image_id, split, *sentences):
    return {
        "ref_id": ref_id,
        "ann_id": ann_id,
        "category_id": 1,
        "image_id": image_id,
        "file_name": "not to be used.jpg",
        "split": split,
        "sent_ids": [ref_id * 10 + index for index in range(len(sentences))],
        "sentences": [
            {"sent_id": ref_id * 10 + index, "sent": sent, "raw": sent.upper(), "tokens": sent.split()}
            for index, sent in enumerate(sentences)
        ],
    }


def write_refer(root, folder="refcoco", split_by="unc", splits=("train", "val", "testA", "testB")):
    """One thing with two expressions for each split, the first on the left, the others on the right."""
    images = root / ("images/saiapr_tc-12" if folder == "refclef" else "images/mscoco/images/train2014")
    refs, annotations = [], []
    for number, split in enumerate(splits, start=1):
        box = LEFT if number == 1 else RIGHT
        shape = [runs_of(rectangle(*box))] if folder == "refclef" else box
        annotations.append((100 + number, number, "cat", shape))
        refs.append(reference(number, 100 + number, number, split, f"The Cat of {split}", "café chair"))
        write_image(images / f"{number:012d}.jpg", seed=number)
    write_json(root / folder / "instances.json", coco_file(range(1, len(splits) + 1), annotations))
    with (root / folder / f"refs({split_by}).p").open("wb") as file:
        pickle.dump(refs, file, protocol=2)
    return root


def write_grefcoco(root):
    """Of train: one expression for nothing, one for one thing, one for two. One of val."""
    instances = coco_file([1, 2], [(11, 1, "cat", LEFT), (12, 1, "dog", RIGHT), (13, 2, "cat", LOW)])
    write_json(root / "grefcoco/instances.json", instances)
    refs = [
        {**reference(1, [-1], 1, "train", "a zebra"), "no_target": True},
        {**reference(2, [11], 1, "train", "left cat"), "no_target": False},
        {**reference(3, [11, 12], 1, "train", "both animals"), "no_target": False},
        {**reference(4, [13], 2, "val", "cat below"), "no_target": False},
    ]
    write_json(root / "grefcoco/grefs(unc).json", refs)
    for image in (1, 2):
        write_image(root / f"images/train2014/{image:012d}.jpg", seed=image)
    return root


def class_map(*areas, background=0):
    """A map of class numbers from (number, box) pairs."""
    values = np.full((HEIGHT, WIDTH), background, dtype=np.uint8)
    for number, box in areas:
        values[rectangle(*box)] = number
    return values


def write_coco_stuff(root):
    """Person (0) on the left, wood (181) on the right, the rest unlabelled."""
    for split, key in (("train2017", "000000000009"), ("val2017", "000000000139")):
        write_image(root / f"images/{split}/{key}.jpg")
        values = class_map((0, LEFT), (181, RIGHT), background=255)
        write_map(root / f"annotations/{split}/{key}.png", values)
        write_map(root / f"annotations/{split}/{key}_labelTrainIds.png", values)
    return root


def write_ade20k(root):
    """Wall (1) everywhere, other objects (0) on the left, flag (150) on the right."""
    folder = root / "ADEChallengeData2016"
    for split, key in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        write_image(folder / f"images/{split}/{key}.jpg")
        values = class_map((0, LEFT), (150, RIGHT), background=1)
        write_map(folder / f"annotations/{split}/{key}.png", values)
    return root


def write_pascal(root, year, maps, lists, splits, last):
    """Aeroplane (1) on the left, class `last` on the right, an outline of 255 below."""
    folder = root / f"VOCdevkit/{year}"
    for number, split in enumerate(splits):
        key = f"2007_{number:06d}"
        write_image(folder / f"JPEGImages/{key}.jpg", seed=number)
        write_map(folder / f"{maps}/{key}.png", class_map((1, LEFT), (last, RIGHT), (255, LOW)))
        (folder / lists).mkdir(parents=True, exist_ok=True)
        (folder / lists / f"{split}.txt").write_text(f"{key}\n")
    return root


def write_llava(root):
    """Two dialogues about images with the same id, one without an image, one about two."""

    def talk(*turns):
        roles = ("human", "gpt")
        return [{"from": roles[index % 2], "value": text} for index, text in enumerate(turns)]

    entries = [
        {
            "id": "1",
            "image": "coco/train2017/1.jpg",
            "conversations": talk("<image>\nWhat is it?", "A café.", "Open?", "Yes."),
        },
        {"id": "1", "image": "gqa/images/2.jpg", "conversations": talk("Is it red?\n<image>", "No")},
        {"id": "text", "conversations": talk("Hello", "Hi")},
        {"id": "two", "image": ["a.jpg", "b.jpg"], "conversations": talk("<image><image> Same?", "No")},
    ]
    write_json(root / "llava_v1_5_mix665k.json", entries)
    write_image(root / "coco/train2017/1.jpg")
    write_image(root / "gqa/images/2.jpg")
    return root


def write_coco(root, count=3, extra=None):
    """Photographs with a cat on the left and a dog on the right; `extra` edits the COCO file."""
    annotations = []
    for image in range(1, count + 1):
        annotations += [
            (image * 10, image, "cat", LEFT),
            (image * 10 + 1, image, "dog", runs_of(rectangle(*RIGHT))),
        ]
        write_image(root / f"images/{image:012d}.jpg", seed=image)
    data = coco_file(range(1, count + 1), annotations, ("cat", "dog", "zebra"))
    if extra:
        extra(data)
    write_json(root / "instances.json", data)
    return root


def write_folder(root, rows=None):
    """Images, masks and a list; the last phrase means nothing."""
    rows = rows or [
        ("one.jpg", "one.png", "The left, thing", ""),
        ("one.jpg", "low.jpg", "the bar", ""),
        ("two.jpg", "", "a zebra", ""),
    ]
    write_image(root / "images/one.jpg")
    write_image(root / "images/two.jpg")
    write_map(root / "masks/one.png", rectangle(*LEFT))
    write_map(root / "masks/low.jpg", rectangle(*LOW) * 255)
    with (root / "phrases.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "mask", "phrase", "split"), *rows])
    return root


def pack_brush(values, word=8, lengths=(3, 4, 8, 16), literal=False):
    """Pack numbers as Label Studio does: runs of one value, or, `literal`, groups of values as they are."""
    bits = f"{len(values):032b}{word - 1:05b}" + "".join(f"{length - 1:04b}" for length in lengths)
    at = 0
    while at < len(values):
        most = 1 << lengths[-1]
        end = at + 1
        while end < len(values) and end - at < most and (literal or values[end] == values[at]):
            end += 1
        chosen = next(index for index, length in enumerate(lengths) if end - at <= 1 << length)
        bits += f"{0 if literal else 1}{chosen:02b}{end - at - 1:0{lengths[chosen]}b}"
        bits += "".join(f"{value:0{word}b}" for value in (values[at:end] if literal else values[at : at + 1]))
        at = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]


def brush_of(mask, **options):
    """A brush mask as Label Studio exports it: RGBA, alpha where the brush was."""
    rgba = np.zeros((*mask.shape, 4), dtype=int)
    rgba[mask] = (90, 12, 200, 255)
    return pack_brush(rgba.ravel().tolist(), **options)


def write_label_studio(root, edit=None):
    """Task 1: a brush, a polygon with a text of its own, a box. 2: nobody marked it. 3: two people did."""
    sized = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, "to_name": "image"}
    x0, y0, x1, y1 = RIGHT
    points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
    brush = {"format": "rle", "rle": brush_of(rectangle(*LEFT)), "brushlabels": ["Cat"]}
    below = {"format": "rle", "rle": brush_of(rectangle(*LOW), literal=True), "brushlabels": ["Cat"]}
    polygon = {"points": points, "closed": True, "polygonlabels": ["Dog"]}
    first = [
        {"id": "a", "type": "brushlabels", "from_name": "tag", "value": brush, **sized},
        {"id": "b", "type": "polygonlabels", "from_name": "tag", "value": polygon, **sized},
        {"id": "b", "type": "textarea", "from_name": "text", "value": {"text": ["the dog on the right"]}},
        {
            "id": "c",
            "type": "rectanglelabels",
            "value": {"x": 1, "y": 1, "width": 9, "height": 9, "rectanglelabels": ["Cat"]},
            **sized,
        },
    ]
    second = [{"id": "d", "type": "brushlabels", "value": below, **sized}]
    tasks = [
        {
            "id": 1,
            "data": {"image": "/data/upload/7/0a1b2c3d-one%20cat.jpg"},
            "annotations": [{"id": 5, "was_cancelled": False, "result": first}],
        },
        {"id": 3, "data": {"image": "/data/local-files/?d=shelf/two.jpg"}, "annotations": []},
        {
            "id": 4,
            "data": {"photo": "s3://bucket/three.png", "note": "ä"},
            "annotations": [
                {"id": 6, "was_cancelled": True, "result": first},
                {"id": 7, "was_cancelled": False, "result": first},
                {"id": 8, "was_cancelled": False, "ground_truth": True, "result": second},
            ],
        },
    ]
    if edit:
        edit(tasks)
    write_json(root / "project-7.json", tasks)
    for name in ("one cat.jpg", "shelf/two.jpg", "three.png"):
        write_image(root / "images" / name)
    return root
