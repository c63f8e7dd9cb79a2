"""Which rows are new, against the plain way to say it."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from troth.curate.integrate.fresh import first_of_each, hashes
from troth.curate.records import short_hash

KEYS = st.one_of(
    st.lists(st.lists(st.sampled_from([short_hash(str(n)) for n in range(6)]))),
    st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3))),
)


def batches(parts):
    return [pa.record_batch([pa.array(part, pa.string())], ["id"]) for part in parts]


@given(new=KEYS, known=KEYS)
def test_the_first_of_each_key_that_is_not_known(new, known):
    seen = {key for part in known for key in part}
    expected = []
    for part in new:
        expected.append([not (key in seen or seen.add(key)) for key in part])
    assert [mask.tolist() for mask in first_of_each(batches(new), batches(known))] == expected


def test_a_slice_and_a_whole_batch_hash_alike():
    (batch,) = batches([[short_hash(str(n)) for n in range(1000)]])
    assert hashes(batch.slice(300, 500)).tolist() == hashes(batch)[300:800].tolist()
    assert len(set(hashes(batch).tolist())) == 1000
    assert hashes(batch.slice(2, 0)).tolist() == []


def test_columns_of_a_key_are_kept_apart():
    one, other = (pa.record_batch([pa.array([a]), pa.array([b])], ["a", "b"]) for a, b in (("ab", "c"), ("a", "bc")))
    assert hashes(one).tolist() != hashes(other).tolist()
