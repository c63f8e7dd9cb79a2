"""Pickles as data: what numpy and ml_dtypes write is read, and whatever would run is refused, and does not run."""

import base64
import contextlib
import copyreg
import os
import pickle
import re
import zlib

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from troth.model.families.arrays import Array, Quantised, dequantise
from troth.model.families.pickled import read_array

# Made with numpy 1.26.4 and ml_dtypes 0.4.1, from a dataclass QuantizedWeight8bit in __main__. Pickles that these write
# with the shapes of Grok-1 have, to the byte, the sizes of the release's files.
REAL = {
    name: zlib.decompress(base64.b85decode(text))
    for name, text in {
        "protocol 3": (
        'c-m`VPL7YyP0Y-TkLL<3P0TCFtV&G@Pt8ovD6vS&Ea56-'
        '&}=MZtSw~Hh+t!2U?>O66f!60mF5;y>LuqFrRwFD=9FY678NB{a>W;=Cg<lBmlTyI1GTb1RB`2{Kx7M9y%|~y*_;`Z3fbEWIf4o~HM|+US-jcW'
        '3b~+4Q%WieQn?DbBbb1eWf~Upbau2C@&*<1X?Qb7FapJD3i<u~{Jj1H0hsV+C@B<3>U5Ska`N2e8+RW)fAjI%Zw6K_ei2DIWer^;^FqOrLZKwE'
        '<BO9Mb5e^7g)>+(z%CKV06If7s89^#3?`5>#51^)b93Ust|;b8O3TSlEHO0WDwF^@Lo%pP3g!%(LTR8gfSQ=R14;^IKn`HAZ?I=@Xs~l|V6Z!2'
        '?_l5H(6GP3_JBj7Y)PS9QfZPN036<Twg'
        ),
        "protocol 4": (
        'c-m`Vnd-^N00uoA@$tEdnR)T?Q+k90OB3@-GOJQk!c#NTGfFIyGE1gRo}$?}rFM!&4_i4{a7vG8UTJPYrCxG=QL0{UX--LIVo_0I<&++t_@dP0'
        '{Ji3lqS9oLz8+Sv!YMuMc_|Pjlc#tyv`%qmOq$X@C1{F<H={R;H(T4349*_bl#<GVRFEd7Ov5Ri9T0iu9>$s}etv#l|A7EZcr%ntN$PZ#ICApb'
        '<r{Y&J%97@+iwO|E`AY7Ib{u9Bl9Uh=^nP?<iwoR;wc#%8QdTXGk9UvF@dcU>fy}Ii3i(QJf(*tDJ>^IvBb~}XgiX{HXw_E8koETAXYNiH`p^c'
        'G}t*fFxVZicd&18XxQIid%yu?WoeQg05r0NUj'
        ),
        "in frames": (
        'c-rmQ%W4y09LC|9)V3)qh~hoOO`scbAqaKn(4gJ83^~;d<U}$-'
        'A_}_bA@J?;@3nY&nuAv%&+~&>4DUDJettfB_?;c3db>UDl#_Nl(u+^a&ZH{84f>x4<(Fagrdw9AiC4ekM>NvO*Zs>#FDJ|KY}M>d=Y!^WIjYLe'
        'eBN0_deWW`deh0GnlF31bLn_LjC4BbA10e9vYU9HcjGRuqEY0RS?w~*Z)13tj{DVWHrO4jmFKa(KP-'
        '+?{ykc))`ve^`$v&g(Oq9;SuHyS00000000000000000000000000000000000000000000000000000000000000000000000000000000000'
        '000000000000000000000000000000000000000000000000000000000000000000000000008*s;rdy&7gcoA$)eX84Hhx14<8rVO$?vj#Z@'
        '$lyr^Gh`E3lJr?c^>-LF=&?JCu~*Q05tI)5FTSl=I}M=5_BtyZh3ZTq<W==vhtUGYwmBuSDa{qOC5FD$#wztRe8?*'
        ),
        "plain": (
        'c-m`VnYxGp0(wOAN^=V;^^)_8QuT66b4oH3i;5B}r}Xf|7o{fW=M|R}l_r-=nLMS36|8Vd4|`q;M9JhS-'
        'VCi%oEej*v`-0|qT$Wx&E(D8HYJ0(hc%_7vLF?ti7CxwN@oW|p1Ft7W{RJmpVxmN02AH}B~y|*oh2YnX|M+p4nPFN4M4oWVG2-M4*=HEKO_'
        ),
    }.items()
}  # fmt: skip
WEIGHT = (torch.arange(-12, 12, dtype=torch.int8) * 5).reshape(4, 6)
SCALES = torch.tensor([[0.5, 1, 2, 0.25, 3, 0.125], [1.5, 0.75, 4, -1, 0.0625, 6]], dtype=torch.bfloat16)


@pytest.fixture
def read(tmp_path):
    """`read(bytes)`: what a file of these bytes holds."""

    def write_and_read(data):
        path = tmp_path / "tensor00000_000"
        path.write_bytes(data)
        return read_array(path)

    return write_and_read


def refuses(read, data, told=""):
    with pytest.raises(ValueError, match=f"tensor00000_000: .*{re.escape(told)}") as error:
        read(data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("protocol", [3, 4])
def test_a_quantised_weight_is_read(read, protocol):
    held = read(REAL[f"protocol {protocol}"])
    assert isinstance(held, Quantised)
    assert torch.equal(held.weight.tensor(), WEIGHT)
    assert torch.equal(held.scales.tensor(), SCALES)


def test_large_numbers_lie_outside_of_frames(read):
    held = read(REAL["in frames"])
    assert torch.equal(held.weight.tensor(), torch.full((512, 256), 7, dtype=torch.int8))
    assert torch.equal(held.scales.tensor(), torch.full((8, 256), 0.5, dtype=torch.bfloat16))


@pytest.mark.parametrize("protocol", [3, 4])
def test_an_array_of_this_numpy_is_read(read, protocol):
    numbers = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    held = read(pickle.dumps(numbers, protocol))
    assert isinstance(held, Array)
    assert held.shape == (3, 50)
    assert np.array_equal(held.tensor().numpy(), numbers)
    assert torch.equal(read(REAL["plain"]).tensor(), torch.arange(6.0).reshape(2, 3))


def test_a_scale_is_for_a_block_of_rows(read):
    held = read(REAL["protocol 4"])
    product = dequantise(held.weight.tensor(), held.scales.tensor())
    exact = WEIGHT.float() * SCALES.float().repeat_interleave(2, dim=0)
    assert product.dtype == torch.bfloat16
    assert torch.equal(product, exact.bfloat16())


def test_numbers_read_from_a_file_leave_it_as_it_is(tmp_path):
    path = tmp_path / "tensor"
    path.write_bytes(REAL["protocol 4"])
    read_array(path).weight.tensor().zero_()
    assert path.read_bytes() == REAL["protocol 4"]


@pytest.mark.parametrize("kind", REAL)
def test_a_file_that_ends_early_or_late_is_named(read, kind):
    data = REAL[kind]
    for size in range(0, min(len(data), 500), 7):
        refuses(read, data[:size])
    refuses(read, data[:-1], "ends early")
    refuses(read, data + b"more", "not an array alone")


def test_what_is_no_array_is_named(read, tmp_path):
    for thing in [None, 3, {"weight": 1}, "text", (), np.float32(1), np.zeros(3)[1:1]]:
        refuses(read, pickle.dumps(thing))
    refuses(read, pickle.dumps(np.zeros(3)), "numbers of type 'f8'")
    refuses(read, pickle.dumps(np.zeros(3, ">f4")))
    refuses(read, pickle.dumps(np.array(["text"])))
    refuses(read, pickle.dumps(np.zeros(3, [("field", "f4")])))
    refuses(read, pickle.dumps(np.zeros((2, 3), np.float32).T))
    refuses(read, pickle.dumps(np.zeros(3, np.float32), 5))
    refuses(read, REAL["protocol 4"].replace(b"K\x04K\x06\x86", b"K\x05K\x06\x86"), "24 bytes for")
    with pytest.raises(ValueError, match="absent"):
        read_array(tmp_path / "absent")


# What would run, each in a way of its own: `touch` makes the file whose absence is the proof.


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def text(words):
    return b"X" + len(words.encode()).to_bytes(4, "little") + words.encode()


def attacks(marker):
    touch = f"touch {marker}"
    line = text(touch)
    calls = b"cbuiltins\nmap\ncos\nsystem\n]" + line + b"a\x86\x81"
    inner = pickle.dumps(Call(os.system, touch), 2)[2:-1]
    array = pickle.dumps(np.zeros(2, np.float32), 3)
    yield from ((f"a call, protocol {p}", pickle.dumps(Call(os.system, touch), p)) for p in range(6))
    yield "eval", pickle.dumps(Call(eval, f"__import__('os').system('{touch}')"))
    yield "an instance", b"(S'" + touch.encode() + b"'\nios\nsystem\n."
    yield "an object", b"(cos\nsystem\nS'" + touch.encode() + b"'\no."
    yield "a new object", b"\x80\x02cbuiltins\nbytes\n" + calls + b"\x85\x81."
    yield "a new object by keywords", b"\x80\x04cbuiltins\nbytes\n" + calls + b"\x85}\x92."
    yield "an extension", b"\x80\x02\x82\xf0" + line + b"\x85R."
    yield "a longer extension", b"\x80\x02\x83\xf0\x00" + line + b"\x85R."
    yield "an array of objects", pickle.dumps(np.array([Call(os.system, touch)], dtype=object))
    yield "an array above it", array[:-1] + inner + b"0."
    yield "a state", array[:-1] + inner + b"b."
    yield "a memo that is overwritten", b"\x80\x02cos\nsystem\nq\x00" + line + b"q\x01h\x00h\x01\x85R."
    yield "an argument of what is known", b"\x80\x02cnumpy\ndtype\n" + inner + b"\x85R."
    yield (
        "a module of numpy",
        b"\x80\x04" + text("numpy.lib._npyio_impl") + text("os.system") + b"\x93" + line + b"\x85R.",
    )


NAMES = [name for name, _ in attacks("marker")]


@pytest.fixture
def extension():
    copyreg.add_extension("os", "system", 0xF0)
    yield
    copyreg.remove_extension("os", "system", 0xF0)


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize("name", NAMES)
def test_nothing_runs(read, tmp_path, name):
    marker = tmp_path / "ran"
    refuses(read, dict(attacks(marker))[name])
    assert not marker.exists()


@pytest.mark.usefixtures("extension")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_all_of_these_run_where_pickles_are_loaded(tmp_path, name):
    marker = tmp_path / "ran"
    # What follows the call may fail: it has run by then.
    with contextlib.suppress(TypeError):
        pickle.loads(dict(attacks(marker))[name])
    assert marker.exists()


def test_names_without_a_place_are_refused(read):
    refuses(read, b"Pos.system\n.", "PERSID")
    refuses(read, b"\x80\x02" + text("os.system") + b"Q.", "BINPERSID")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("numpy", "dtype.type"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("__main__", "QuantizedWeight8bit.__init__"),
        ("copyreg", "_reconstructor"),
        ("nömpy\n", "dtype"),
    ],
)
def test_the_name_that_is_asked_for_is_told(read, module, name):
    words = b"".join(b"\x8c" + bytes([len(word.encode())]) + word.encode() for word in (module, name))
    refuses(read, b"\x80\x04" + words + b"\x93.", f"asks for {f'{module}.{name}'!a}")


def test_states_that_would_change_what_is_known_are_refused(read):
    weight = b"c__main__\nQuantizedWeight8bit\n"
    known = b"\x80\x03" + weight
    refuses(read, known + b"}X\x08\x00\x00\x00__call__K\x01sb.")
    refuses(read, known + b"N}X\x06\x00\x00\x00weightK\x01s\x86b.")
    refuses(read, known + b")\x81}X\x09\x00\x00\x00__class__cnumpy\nndarray\nsb.")
    refuses(read, known + b")\x81}q\x00X\x06\x00\x00\x00weighth\x00sb.")
    refuses(read, known + b"K\x01\x85\x81.")
    refuses(read, b"\x80\x03cnumpy\nndarray\n)\x81.")
    refuses(read, b"\x80\x03cnumpy\ndtype\ncnumpy\nndarray\n\x89\x88\x87R.")


def test_little_is_spent_on_what_promises_much(read):
    refuses(read, b"\x80\x04Nr\xff\xff\xff\xff.")
    refuses(read, b"\x80\x04\x8e" + b"\xff" * 8 + b".", "ends early")
    refuses(read, b"\x80\x04X\xff\xff\xff\xff.", "a long text")
    refuses(read, b"\x80\x04" + b"N" * 2000 + b".", "holds more than an array")
    refuses(read, b"\x80\x04)" + b"\x85" * 900 + b".")
    refuses(read, b"c" + b"x" * 3000, "a long name")


@st.composite
def mutated(draw):
    data = bytearray(draw(st.sampled_from([REAL["protocol 3"], REAL["protocol 4"], REAL["plain"]])))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    return bytes(data)


WORDS = [b"\x8c\x05numpy", b"\x8c\x05dtype", b"\x8c\x02f4", b"K\x01"]
PIECES = st.sampled_from([bytes([code]) for code in range(256)] + WORDS)


@given(st.one_of(st.binary(max_size=200), mutated(), st.lists(PIECES, max_size=60).map(b"".join)))
@example(b"\x80\x04N}(((.")
def test_any_bytes_give_an_array_or_one_line(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    try:
        held = read_array(path)
    except ValueError as error:
        told = str(error)
    else:
        told = f"{path}: "
        for array in [held.weight, held.scales] if isinstance(held, Quantised) else [held]:
            assert tuple(array.tensor().shape) == array.shape
    assert told.startswith(f"{path}: ")
    assert "\n" not in told
