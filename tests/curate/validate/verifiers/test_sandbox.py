"""Code that nobody vouches for, run where it can do no harm, and what its examples come to."""

from pathlib import Path

import pytest

from troth.curate.validate.verifiers.examples import code_findings
from troth.curate.validate.verifiers.sandbox import Sandbox

SANDBOX = Sandbox(seconds=1)
isolated = pytest.mark.skipif(bool(SANDBOX.why_not()), reason=SANDBOX.why_not() or "isolated")
PAGE = """Doubling a list:

>>> [x * 2 for x in range(3)]
[0, 2, 4]
>>> sorted("ba")
['a', 'c']
>>> {3, 1}
{3, 1}
>>> 1 / 0
Traceback (most recent call last):
ZeroDivisionError: division by zero
>>> object()
<object object at 0x7f>
>>> undefined
4
>>> 1 + 1
3
"""
PROGRAM = '''
def double(x):
    """Twice as much.

    >>> double(2)
    4
    >>> double("a")
    'aaa'
    """
    return 2 * x
'''
FENCED = """# Adding
```python
def f(x):
    return x + 1
assert f(1) == 2
assert f(2) == 4
assert f(3) == 4
```
"""


def found(text):
    return [(text[f.start : f.end], f.stance, f.answer) for f in code_findings(text, SANDBOX)]


@isolated
def test_examples_print_what_is_said_or_something_else():
    assert found(PAGE) == [
        ("[0, 2, 4]", "supported", ""),
        ("['a', 'c']", "refuted", "['a', 'b']"),
        ("{3, 1}", "supported", ""),
        ("Traceback (most recent call last):\nZeroDivisionError: division by zero", "supported", ""),
    ]  # Nothing after the error that nobody expected.


@isolated
def test_examples_of_a_docstring_know_the_program():
    assert found(PROGRAM) == [("4", "supported", ""), ("'aaa'", "refuted", "'aa'")]


@isolated
def test_asserts_hold_or_fail():
    assert [(text, stance) for text, stance, _ in found(FENCED)] == [
        ("assert f(1) == 2", "supported"), ("assert f(2) == 4", "refuted"),
    ]  # fmt: skip


@isolated
def test_what_differs_from_run_to_run_is_not_judged():
    assert found(">>> import random\n>>> random.random()\n0.5\n>>> hash('a')\n3\n") == []


@isolated
@pytest.mark.parametrize(
    "harm",
    [
        "import socket; socket.create_connection(('127.0.0.1', 80), 1)",
        f"open({str(Path(__file__))!r}).read()",
        "open('/etc/passwd').read()",
        "open('/usr/lib/left-behind', 'w')",
        "open('/left-behind', 'w')",
        "import os; os.fork()",
        "import os; os.execv('/bin/sh', ['sh'])",
        "import subprocess; subprocess.run(['ls'])",
        "import os; os.kill(os.getppid(), 9)",
        "import os; os.chroot('/work')",
        "import ctypes; assert ctypes.CDLL(None).mount(b'x', b'/work', b'tmpfs', 0, None) == 0",
        "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0",
        "x = 'x' * (1 << 30)",
        "open('big', 'wb').write(bytes(1 << 22))",
    ],
)
def test_nothing_is_within_reach(harm):
    ran = SANDBOX.run(harm, "program")
    assert ran is None or ran[0].failed


@isolated
def test_an_empty_folder_is_all_there_is():
    (ran,) = SANDBOX.run("import os; open('note', 'w').write('x'); assert os.listdir('.') == ['note']", "program")
    assert ran.same
    (ran,) = SANDBOX.run("import os; assert 'HOME' not in os.environ and os.listdir('.') == []", "program")
    assert ran.same


@isolated
@pytest.mark.parametrize("source", ["while True: pass", "import time; time.sleep(60)", "print('x' * 10 ** 10)"])
def test_nothing_runs_for_long(source):
    ran = SANDBOX.run(source, "program")
    assert ran is None or ran[0].failed


@isolated
def test_results_that_code_forges_change_nothing():
    forged = "import os, sys; os.write(int(sys.argv[1]), b'{\"results\": [{\"wrong\": 1}]}'); os._exit(0)"
    assert SANDBOX.run(forged, "program") is None


def test_code_is_not_run_where_it_cannot_be_isolated(monkeypatch):
    monkeypatch.setattr("troth.curate.validate.verifiers.sandbox.sys.platform", "plan9")
    from troth.curate.validate.verifiers import sandbox

    sandbox._refusal.cache_clear()
    try:
        with pytest.raises(ValueError, match="code is not run: plan9"):
            Sandbox().run("1", "program")
    finally:
        sandbox._refusal.cache_clear()


def test_without_isolation_code_runs_only_if_asked():
    (ran,) = Sandbox(seconds=2, unsafe=True).run("assert 1 + 1 == 3", "program")
    assert ran.failed.startswith("AssertionError")
