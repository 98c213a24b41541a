"""Rows from files, prompts from rows."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.vlm.capturing import N_VISION, SIDE, mixed_rows, picture, tiny_processor
from vlm import _images
from vlm._errors import VLMError
from vlm.data import LazyImages, count_rows, digest, is_correct, prepare, read_rows


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    picture(seed).save(stream, "png")
    return stream.getvalue()


def write(folder, *rows, name="data.jsonl"):
    file = folder / name
    file.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return file


@pytest.fixture
def jsonl(tmp_path):
    (tmp_path / "images").mkdir()
    for seed in (1, 2):
        (tmp_path / "images" / f"{seed}.png").write_bytes(png(seed))
    return write(
        tmp_path,
        {"image": "images/1.png", "question": "is it red ?", "answer": "yes", "task": "color"},
        {"images": ["images/1.png", "images/2.png"], "question": "how many ?", "id": 7},
        {"question": "what ?", "choices": ["one", "two"], "group": "g", "answer": 2},
        {"image": "images/1.png", "question": "is it blue ?"},
    )


def pixels(image):
    return np.asarray(image)


def test_jsonl(jsonl):
    rows = list(read_rows(jsonl))
    assert [row["id"] for row in rows] == ["0", "7", "2", "3"]
    assert [len(row["images"]) for row in rows] == [1, 2, 0, 1]
    assert rows[0]["task"] == "color"
    assert rows[2]["answer"] == "2"
    assert "image" not in rows[0]
    # Rows about one picture are one group; a row without any stands for itself.
    assert rows[0]["group"] == rows[3]["group"] == "images/1.png"
    assert rows[1]["group"] == "images/1.png+images/2.png"
    assert rows[2]["group"] == "g"
    np.testing.assert_array_equal(pixels(rows[1]["images"][1]), pixels(picture(2)))
    assert rows[0]["images"][0].mode == "RGB"
    assert count_rows(jsonl) == 4


def test_parquet_and_saved_dataset_say_the_same(tmp_path):
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    questions, answers = ["is it red ?", "what ?"], ["yes", "no"]
    table = pa.table(
        {
            "image": [{"bytes": png(1), "path": None}, {"bytes": png(2), "path": None}],
            "question": questions,
            "answer": answers,
        }
    )
    pq.write_table(table, tmp_path / "data.parquet")
    data = datasets.Dataset.from_dict(
        {"image": [png(1), png(2)], "question": questions, "answer": answers},
        features=datasets.Features(
            {
                "image": datasets.Image(),
                "question": datasets.Value("string"),
                "answer": datasets.Value("string"),
            }
        ),
    )
    data.save_to_disk(tmp_path / "saved")
    for path in (tmp_path / "data.parquet", tmp_path / "saved"):
        rows = list(read_rows(path))
        assert count_rows(path) == len(rows) == 2
        assert [row["question"] for row in rows] == questions
        np.testing.assert_array_equal(pixels(rows[1]["images"][0]), pixels(picture(2)))
        assert rows[0]["group"] != rows[1]["group"]
    assert digest(tmp_path / "data.parquet") == digest(tmp_path / "saved")


def test_lists_of_images_in_a_saved_dataset(tmp_path):
    import datasets

    data = datasets.Dataset.from_dict(
        {"images": [[png(1), png(2)], []], "question": ["how many ?", "what ?"]},
        features=datasets.Features(
            {"images": datasets.List(datasets.Image()), "question": datasets.Value("string")}
        ),
    )
    data.save_to_disk(tmp_path / "saved")
    rows = list(read_rows(tmp_path / "saved"))
    assert [len(row["images"]) for row in rows] == [2, 0]
    np.testing.assert_array_equal(pixels(rows[0]["images"][1]), pixels(picture(2)))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "line 2: not a JSON object"),
        ("[1, 2]", "line 2: expected an object with a question, found list"),
        ('{"image": "x.png"}', "line 2: a row needs a question .* it has image"),
        ('{"question": "  "}', "line 2: a row needs a question"),
        ('{"question": "q", "image": "gone.png"}', "line 2: there is no image file .*gone.png"),
        ('{"question": "q", "image": "https://x/y.png"}', "line 2: .* nothing is downloaded"),
        ('{"question": "q", "image": 3}', "line 2: an image must be .* found int"),
        ('{"question": "q", "image": "a", "images": ["b"]}', "line 2: give image or images"),
        ('{"question": "q", "choices": "yes"}', "line 2: choices must be a list of texts"),
        ('{"question": "q", "answer": {"a": 1}}', "line 2: answer must be a text"),
        ('{"question": "q", "id": 0}', r"line 2: the id '0' was used before \(data.jsonl, line 1"),
        ("\ufffd" * 3, "line 2: not a JSON object"),
        ("[" * 100_000, "line 2: not a JSON object"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    file = tmp_path / "data.jsonl"
    file.write_text(json.dumps({"question": "ok"}) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(VLMError, match=message):
        list(read_rows(file))


def test_unusable_paths_are_refused_at_the_call(tmp_path):
    with pytest.raises(VLMError, match="there is no data at"):
        read_rows(tmp_path / "gone.jsonl")
    (tmp_path / "data.csv").write_text("question\n")
    with pytest.raises(VLMError, match=r"cannot tell what .*data.csv is"):
        read_rows(tmp_path / "data.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(VLMError, match="not a dataset folder"):
        list(read_rows(tmp_path / "empty"))
    assert count_rows(tmp_path / "empty") is None
    (tmp_path / "bad.parquet").write_bytes(b"nothing")
    assert count_rows(tmp_path / "bad.parquet") is None
    with pytest.raises(VLMError, match="not a readable parquet file"):
        list(read_rows(tmp_path / "bad.parquet"))


def test_images_are_opened_only_when_asked_for(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image at all")
    [row] = read_rows(write(tmp_path, {"question": "q", "image": "broken.png"}))
    with pytest.raises(VLMError, match=r"data.jsonl, line 1: cannot read .*broken.png as an image"):
        row["images"][0]


def test_truncated_images_are_refused(tmp_path):
    (tmp_path / "half.png").write_bytes(png(1)[:400])
    [row] = read_rows(write(tmp_path, {"question": "q", "image": "half.png"}))
    with pytest.raises(VLMError, match=r"cannot read .*half.png as an image"):
        row["images"][0]


@pytest.mark.parametrize("width", [10_000, 20_000])
def test_decompression_bombs_are_not_decoded(width):
    stream = io.BytesIO()
    Image.new("1", (width, 10_000)).save(stream, "png")
    assert len(stream.getvalue()) < 100_000
    with pytest.raises(VLMError, match=r"pixels|too large an image"):
        LazyImages([stream.getvalue()])[0]
    with pytest.raises(VLMError, match="pixels"):
        LazyImages([Image.new("1", (width, 10_000))])[0]


def test_large_files_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(_images, "MAX_FILE_BYTES", 100)
    (tmp_path / "large.png").write_bytes(png(1))
    with pytest.raises(VLMError, match="at most 100 are read"):
        LazyImages([tmp_path / "large.png"])[0]


def test_transparent_and_palette_images_become_rgb():
    for mode in ("RGBA", "P", "L", "1"):
        assert LazyImages([picture(1).convert(mode)])[0].mode == "RGB"


def test_pictures_stand_the_way_they_were_taken():
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # held on its side
    Image.new("RGB", (30, 20)).save(stream, "jpeg", exif=exif)
    assert LazyImages([stream.getvalue()])[0].size == (20, 30)


def test_digest_sees_rows_order_and_pixels(jsonl):
    rows = list(read_rows(jsonl))
    assert digest(jsonl) == digest(rows) == digest(read_rows(jsonl))
    assert digest(rows[::-1]) != digest(rows)
    assert digest([{**rows[0], "answer": "no"}, *rows[1:]]) != digest(rows)
    before = digest(jsonl)
    (jsonl.parent / "images" / "2.png").write_bytes(png(3))
    assert digest(jsonl) != before


def test_rows_of_different_image_counts_share_a_batch():
    processor = tiny_processor()
    inputs, info = prepare(processor, mixed_rows())
    ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
    assert ((ids == processor.image_token_id).sum(1) // N_VISION).tolist() == [1, 2, 0, 1, 1]
    assert inputs["pixel_values"].shape == (5, 3, SIDE, SIDE)
    assert mask[:, -1].all()  # padded on the left
    assert (ids[~mask] == processor.tokenizer.pad_token_id).all()
    assert [one.n_images for one in info] == [1, 2, 0, 1, 1]
    assert info[0].prompt == "<bos> USER <image> is it red ? ASSISTANT"
    # The template wrote the start token; the tokenizer must not add another.
    assert ((ids == processor.tokenizer.bos_token_id).sum(1) == 1).all()
    assert "images" not in info[0].record
    assert "image" not in info[0].record


def test_pixels_follow_their_row():
    processor = tiny_processor()
    together, _ = prepare(processor, mixed_rows())
    alone, _ = prepare(processor, mixed_rows()[3:4])
    assert torch.equal(together["pixel_values"][3], alone["pixel_values"][0])


def test_right_padding_dtype_and_text_alone():
    processor = tiny_processor()
    inputs, _ = prepare(processor, mixed_rows()[1:3], padding_side="right", dtype=torch.bfloat16)
    assert inputs["attention_mask"][:, 0].all()
    assert inputs["pixel_values"].dtype == torch.bfloat16
    assert inputs["input_ids"].dtype == torch.int64
    text, _ = prepare(processor, mixed_rows()[2:3])
    assert "pixel_values" not in text


def test_placeholders_in_the_question_say_where_the_images_go():
    row = {"images": [picture(1), picture(2)], "question": "what is <image> and <image> ?"}
    _, [info] = prepare(tiny_processor(), [row])
    assert info.prompt == "<bos> USER what is <image> and <image> ? ASSISTANT"
    with pytest.raises(VLMError, match="has 1 images, but its question has 2 times"):
        prepare(tiny_processor(), [{**row, "images": [picture(1)]}])


def test_without_a_chat_template():
    processor = tiny_processor(chat_template=None)
    inputs, infos = prepare(processor, mixed_rows()[:3])
    assert infos[1].prompt.startswith("<image>\n<image>\nhow many")
    assert infos[2].prompt == "what is it ?"
    assert (inputs["input_ids"][1] == processor.image_token_id).sum() == 2 * N_VISION


def test_a_template_of_the_tokenizer_alone():
    processor = tiny_processor(chat_template=None)
    processor.tokenizer.chat_template = (
        "{%- for m in messages -%}USER {{ m['content'] }} ASSISTANT{%- endfor -%}"
    )
    inputs, [info] = prepare(processor, mixed_rows()[:1])
    assert info.prompt == "USER <image>\nis it red ? ASSISTANT"
    assert (inputs["input_ids"] == processor.image_token_id).sum() == N_VISION


def test_what_prepare_refuses():
    processor = tiny_processor()
    with pytest.raises(VLMError, match="no rows"):
        prepare(processor, [])
    with pytest.raises(VLMError, match="'left' or 'right'"):
        prepare(processor, mixed_rows(), padding_side="both")
    with pytest.raises(VLMError, match="row 'b' has images, and a text-only model takes none"):
        prepare(processor.tokenizer, mixed_rows()[2:0:-1])
    with pytest.raises(VLMError, match="row 'b' has images, .* has no image processor"):
        prepare(SimpleNamespace(tokenizer=processor.tokenizer), mixed_rows()[2:0:-1])
    processor.tokenizer.pad_token = None
    with pytest.raises(VLMError, match="no padding token"):
        prepare(processor, mixed_rows())
    prepare(processor, mixed_rows()[:1])  # one row needs none


@pytest.mark.parametrize(
    ("said", "answer", "right"),
    [
        ("Yes.", "yes", True),
        (" two\n", "Two", True),
        ("no", "yes", False),
        ("b", ["a", "B"], True),
        ("", "yes", False),
        ("yes no", "yes", False),
    ],
)
def test_is_correct(said, answer, right):
    assert is_correct(said, answer) is right


def test_a_damaged_page_of_a_parquet_file_is_one_sentence(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([{"question": "is it red?" * 50}] * 9), path)
    data = bytearray(path.read_bytes())
    data[10:60] = bytes(50)
    path.write_bytes(data)
    with pytest.raises(VLMError, match="is not a readable parquet file"):
        list(read_rows(path))


def test_a_line_that_does_not_end_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("vlm._readers._MAX_LINE", 100)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "short"}\n{"question": "' + "long " * 50 + '"}\n')
    with pytest.raises(VLMError, match=r"rows\.jsonl has a line of more than 100 bytes"):
        list(read_rows(path))


def test_an_image_name_that_no_file_can_have_is_one_sentence(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "is it red?", "image": "x" * 5000}))
    with pytest.raises(VLMError, match=r"rows\.jsonl, line 1: the image 'x+\.\.\.': File name too"):
        list(read_rows(path))
