"""The document schema: what is taken, what is refused, and where the fault is said to be."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pydantic_core import PydanticCustomError

from app.documents import MAX_PROBLEMS, MAX_SPARSE, DocumentBody, invalid, parse_document, read_sparse
from app.errors import Invalid, MalformedBody
from app.types import Document

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=128)
KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]*", fullmatch=True).filter(lambda k: k not in ("and", "or", "not"))
VALUES = st.one_of(
    TEXT,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(TEXT),
)
LAWS = settings(derandomize=True, deadline=None, max_examples=60)


def refusal(body: str | bytes) -> Invalid:
    with pytest.raises(Invalid) as raised:
        parse_document(body)
    return raised.value


@LAWS
@given(id=IDS, text=TEXT, title=TEXT, metadata=st.dictionaries(KEYS, VALUES))
def test_what_was_written_is_read_with_its_types(id: str, text: str, title: str, metadata: dict[str, object]) -> None:
    body = {"id": id, "text": text, "title": title, "metadata": metadata, "vector": [1]}
    read = parse_document(json.dumps(body))
    assert (read.id, read.text, read.title, read.metadata) == (id, text, title, metadata)
    assert [type(value) for value in read.metadata.values()] == [type(value) for value in metadata.values()]


@LAWS
@given(
    arrays(np.float32, array_shapes(min_dims=2, max_dims=2), elements=st.floats(-(2.0**99), 2.0**99, width=32)),
    st.sampled_from(["<f4", "<f2"]),
)
def test_numbers_and_base64_give_the_same_vectors(vectors: np.ndarray, dtype: str) -> None:
    if dtype == "<f2":
        vectors = np.clip(vectors, -60_000, 60_000).astype(np.float16).astype(np.float32)
    packed = {
        "base64": base64.b64encode(vectors.astype(dtype).tobytes()).decode(),
        "dtype": "float32" if dtype == "<f4" else "float16",
        "shape": list(vectors.shape),
    }
    as_numbers = parse_document(json.dumps({"id": "a", "vectors": vectors.tolist()})).vectors
    as_base64 = parse_document(json.dumps({"id": "a", "vectors": packed})).vectors
    assert as_numbers is not None
    assert as_base64 is not None
    assert as_numbers.dtype == as_base64.dtype == np.float32
    np.testing.assert_array_equal(as_numbers, vectors)
    np.testing.assert_array_equal(as_base64, vectors)


def test_a_vector_is_one_row() -> None:
    read = parse_document('{"id": "a", "vector": [1, 2.5, -3]}')
    assert read.vectors is not None
    assert read.vectors.tolist() == [[1.0, 2.5, -3.0]]
    packed = base64.b64encode(np.array([1, 2], "<f2").tobytes()).decode()
    body = {"id": "a", "vector": {"base64": packed, "dtype": "float16", "shape": [2]}}
    read = parse_document(json.dumps(body))
    assert read.vectors is not None
    assert read.vectors.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    "body",
    [
        {"id": "a", "text": "x"},
        {"id": "a", "title": "x"},
        {"id": "a", "text": " ", "title": "x"},
        {"id": "a", "text": "", "vector": [0.5]},
        {"id": "a", "vectors": [[0.5]]},
    ],
)
def test_text_may_be_empty_where_a_title_or_vectors_are_given(body: object) -> None:
    assert isinstance(parse_document(json.dumps(body)), Document)


@pytest.mark.parametrize("id", ["a" * 512, "ü" * 256, "../..", "a/b?c=d#e", "\u2028", "\u00a0", "é", "e\u0301"])
def test_ids_are_taken_byte_for_byte(id: str) -> None:
    assert parse_document(json.dumps({"id": id, "text": "x"})).id == id


@pytest.mark.parametrize("number", [0, 7, -1, 2**64 - 1, -(2**63)])
def test_an_integer_is_its_digits(number: int) -> None:
    assert parse_document(json.dumps({"id": number, "text": "x"})).id == str(number)


def test_a_document_without_an_id_has_one_of_all_that_it_holds() -> None:
    whole = {"text": "x", "title": "y", "metadata": {"a": 1, "b": "2"}, "vector": [1, 2]}
    made = parse_document(json.dumps(whole)).id
    turned = {**dict(reversed(whole.items())), "metadata": {"b": "2", "a": 1}}
    assert parse_document(json.dumps(turned)).id == made
    others = [
        {**whole, "text": "y", "title": "x"},
        {**whole, "metadata": {"a": 1.0, "b": "2"}},
        {**whole, "metadata": {"a": True, "b": "2"}},
        {**whole, "vector": [1, 2.5]},
        {**whole, "sparse_vector": {"indices": [1], "values": [1]}},
        {**whole, "sparse_vector": {"indices": [1], "values": [2]}},
        {key: value for key, value in whole.items() if key != "vector"},
    ]
    ids = [parse_document(json.dumps(one)).id for one in others]
    assert len({made, *ids}) == len(others) + 1
    assert all(len(id) == 32 and int(id, 16) >= 0 for id in ids)


FAULTS: list[tuple[str, str]] = [
    # (body, pointer of the fault)
    ("[]", ""),
    ("null", ""),
    ('"text"', ""),
    ('{"id": 1.0, "text": "x"}', "/id"),
    ('{"id": 1e3, "text": "x"}', "/id"),
    ('{"id": true, "text": "x"}', "/id"),
    ('{"id": ["a"], "text": "x"}', "/id"),
    ('{"id": 18446744073709551616, "text": "x"}', "/id"),
    ('{"id": null, "text": "x"}', "/id"),
    ('{"id": "", "text": "x"}', "/id"),
    ('{"id": "%s", "text": "x"}' % ("a" * 513), "/id"),
    ('{"id": "%s", "text": "x"}' % ("ü" * 257), "/id"),
    (r'{"id": "a\u0000", "text": "x"}', "/id"),
    (r'{"id": "a\n", "text": "x"}', "/id"),
    (r'{"id": "a\u0085", "text": "x"}', "/id"),
    (r'{"id": "a\u007f", "text": "x"}', "/id"),
    ('{"id": "a"}', "/text"),
    ('{"id": "a", "text": "  \\n "}', "/text"),
    ('{"id": "a", "text": "", "title": " "}', "/text"),
    ('{"id": "a", "text": true}', "/text"),
    ('{"id": "a", "text": null, "title": "x"}', "/text"),
    ('{"id": "a", "text": ["x"]}', "/text"),
    ('{"id": "a", "text": "x", "title": 1}', "/title"),
    ('{"id": "a", "text": "x", "Title": "y"}', "/Title"),
    ('{"id": "a", "text": "x", "a/b~": 1}', "/a~1b~0"),
    ('{"id": "a", "text": "x", "metadata": null}', "/metadata"),
    ('{"id": "a", "text": "x", "metadata": []}', "/metadata"),
    ('{"id": "a", "text": "x", "metadata": {"a": -%s}}' % ("9" * 309), "/metadata/a"),
    ('{"id": "a", "text": "x", "metadata": {"a b": ["b", {"c/d": 1e999}]}}', "/metadata/a b/1/c~1d"),
    ('{"id": "a", "text": "x", "metadata": {"a": ' + "[" * 20 + "1" + "]" * 20 + "}}", "/metadata/a" + "/0" * 19),
    ('{"id": "a", "text": "x", "metadata": ' + '{"a":' * 21 + "1" + "}" * 22, "/metadata" + "/a" * 20),
    ('{"id": "a", "text": "x", "metadata": {"a": %s}}' % ("9" * 4_000), "/metadata/a"),
    ('{"id": "a", "text": "x", "metadata": {"a": 1e400}}', "/metadata/a"),
    ('{"id": "a", "text": "x", "metadata": {"a": NaN}}', "/metadata/a"),
    ('{"id": "a", "text": "x", "metadata": {"a": -Infinity}}', "/metadata/a"),
    ('{"id": "a", "vector": null}', "/vector"),
    ('{"id": "a", "vector": 1}', "/vector"),
    ('{"id": "a", "vector": []}', "/vector"),
    ('{"id": "a", "vector": [1, true]}', "/vector/1"),
    ('{"id": "a", "vector": [1, "1.5"]}', "/vector/1"),
    ('{"id": "a", "vector": [1, null]}', "/vector/1"),
    ('{"id": "a", "vector": [1, [2]]}', "/vector/1"),
    ('{"id": "a", "vector": [1, NaN]}', "/vector/1"),
    ('{"id": "a", "vector": [1, 1e39]}', "/vector/1"),
    ('{"id": "a", "vector": [1, 1e400]}', "/vector/1"),
    ('{"id": "a", "vector": [1, 1%s]}' % ("0" * 400), "/vector"),
    ('{"id": "a", "vector": [%s1]}' % ("1," * 16_384), "/vector"),
    ('{"id": "a", "vectors": []}', "/vectors"),
    ('{"id": "a", "vectors": [[]]}', "/vectors/0"),
    ('{"id": "a", "vectors": [1, 2]}', "/vectors/0"),
    ('{"id": "a", "vectors": [[1, 2], [3]]}', "/vectors/1"),
    ('{"id": "a", "vectors": [[1, 2], [3, false]]}', "/vectors/1/1"),
    ('{"id": "a", "vectors": [[1, 2], [Infinity, 3]]}', "/vectors/1/0"),
    ('{"id": "a", "vectors": "AAAA"}', "/vectors"),
    ('{"id": "a", "vector": [1], "vectors": [[1]]}', "/vectors"),
]


@pytest.mark.parametrize(("body", "where"), FAULTS, ids=[body[:60] for body, _ in FAULTS])
def test_a_fault_is_pointed_at(body: str, where: str) -> None:
    error = refusal(body)
    assert [problem.pointer for problem in error.problems] == [where]
    assert error.status == 422


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"base64": "AAAAAAAAAA=="}, "/vectors/base64"),
        ({"base64": "AAA-AAA_"}, "/vectors/base64"),
        ({"base64": "AAA AAAA"}, "/vectors/base64"),
        ({"base64": "AAAAAAA"}, "/vectors/base64"),
        ({"base64": "ü"}, "/vectors/base64"),
        ({"base64": 1}, "/vectors/base64"),
        ({"base64": base64.b64encode(np.array([1, np.nan], "<f4").tobytes()).decode()}, "/vectors/base64"),
        ({"dtype": "float64"}, "/vectors/dtype"),
        ({"dtype": []}, "/vectors/dtype"),
        ({"shape": [2]}, "/vectors/shape"),
        ({"shape": [1, 1, 2]}, "/vectors/shape"),
        ({"shape": [0, 2]}, "/vectors/shape"),
        ({"shape": [-1, -2]}, "/vectors/shape"),
        ({"shape": [1, 2.0]}, "/vectors/shape"),
        ({"shape": [True, 2]}, "/vectors/shape"),
        ({"shape": [1, 16_385]}, "/vectors/shape"),
        ({"shape": [2**62, 2]}, "/vectors/base64"),
        ({"shape": "1,2"}, "/vectors/shape"),
        ({"order": "C"}, "/vectors/order"),
    ],
)
def test_base64_is_held_to_its_shape(change: dict[str, object], where: str) -> None:
    packed = {"base64": "AAAAAAAAAAA=", "dtype": "float32", "shape": [1, 2]}
    assert parse_document(json.dumps({"id": "a", "vectors": packed})).vectors is not None
    error = refusal(json.dumps({"id": "a", "vectors": packed | change}))
    assert [problem.pointer for problem in error.problems] == [where]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nope",
        b"{'id': 'a'}",
        b'{"id": "a", "text": "x",}',
        b'{"id": "a", "text": "x"} {}',
        b'{"id": "a", "text": "\xff"}',
        b'\xef\xbb\xbf{"id": "a", "text": "x"}',
        b'{"id": "\\ud800", "text": "x"}',
        b'{"id": "a", "text": "\\udfff\\ud800"}',
        b'{"id": "a", "text": "a\nb"}',
        b'{"id": "a", "vector": [' + b"9" * 5_000 + b"]}",
        b'{"id": "a", "vectors": ' + b"[" * 100_000,
    ],
)
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        parse_document(body)


def test_each_fault_is_listed_up_to_a_limit() -> None:
    error = refusal(json.dumps({"id": 1.5, "text": 2, "x": 3}))
    assert {problem.pointer for problem in error.problems} == {"/id", "/text", "/x"}
    many = refusal(json.dumps({"id": "a", "text": "x"} | {f"x{i}": i for i in range(MAX_PROBLEMS + 1)}))
    assert len(many.problems) == MAX_PROBLEMS
    flood = refusal(json.dumps({"id": "a", "text": "x"} | {f"x{i}": i for i in range(20_000)}))
    assert "20,000" in flood.message


def test_a_kind_takes_only_its_own_field() -> None:
    vector, vectors = '{"id": "a", "vector": [1]}', '{"id": "a", "vectors": [[1]]}'
    assert parse_document(vector, "dense").vectors is not None
    assert parse_document(vectors, "multi_vector").vectors is not None
    for body, kind in ((vector, "multi_vector"), (vectors, "dense")):
        with pytest.raises(Invalid, match="collection is"):
            parse_document(body, kind)  # type: ignore[arg-type]


def test_a_lone_surrogate_from_python_is_refused_too() -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError) as raised:
        DocumentBody.model_validate({"id": "a\ud800", "text": "x"})
    assert isinstance(invalid(raised.value, DocumentBody), Invalid)


def test_a_sparse_vector_has_so_many_indices_at_most() -> None:
    most = list(range(MAX_SPARSE))
    assert len(read_sparse({"indices": most, "values": [1] * len(most)})) == MAX_SPARSE
    with pytest.raises(PydanticCustomError, match="at most 65,536 indices"):
        read_sparse({"indices": [*most, MAX_SPARSE], "values": [1] * (MAX_SPARSE + 1)})
