"""Commands that are stopped end in order, whatever libraries make of the exception that ends them."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import gc, os, signal, sys, time, weakref
from tipping.command import line

def stop():
    os.kill(os.getpid(), signal.{signal})

def swallowed():
    try:
        stop()
    except BaseException:
        time.sleep(0.8)
    while True:
        time.sleep(0.1)

def turned():
    try:
        stop()
    except BaseException as error:
        raise ImportError("initialization failed") from error

def slow_to_clean():
    try:
        stop()
    finally:
        for _ in range(8):
            try:
                time.sleep(0.2)
                raise ValueError
            except ValueError:
                time.sleep(0.2)
        print("cleaned")

class Deleted:
    def __del__(self):
        stop()
        time.sleep(1.2)
        print("deleted")

def lost():
    Deleted()
    while True:
        time.sleep(0.1)

def emptied():
    try:
        stop()
    except SystemExit:
        raise SystemExit  # without a code, as Lightning does

def missed():
    try:
        stop()
    except SystemExit:
        pass

def at_fork():
    os.register_at_fork(before=stop)
    if os.fork() == 0:
        os._exit(0)
    while True:
        time.sleep(0.1)

def at_collection():
    gc.callbacks.append(lambda *_: stop())
    gc.collect()
    while True:
        time.sleep(0.1)

def by_weak_reference():
    thing = set()
    kept = weakref.ref(thing, lambda _: stop())
    del thing
    while True:
        time.sleep(0.1)

def generator():
    try:
        yield
    finally:
        stop()

def in_generator():
    next(generator())
    while True:
        time.sleep(0.1)

def blocked():
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.{signal},))
    try:
        line.Sweep.stop(signal.{signal}, None)  # as when another thread gets the signal
        time.sleep(1.2)
        print("whole")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.{signal},))
    while True:
        time.sleep(0.1)

def in_forks():
    for _ in range(2):
        ready, begun = os.pipe()
        if (fork := os.fork()) == 0:
            os.write(begun, b".")
            time.sleep(60)
            os._exit(0)
        os.read(ready, 1)
        os.kill(fork, signal.{signal})
        assert os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]) == -signal.{signal}
    print("both")
    stop()

line.run({main})
"""
MAINS = ("stop", "swallowed", "turned", "emptied", "missed", "slow_to_clean", "lost", "at_fork", "at_collection")
MAINS += ("by_weak_reference", "in_generator", "blocked", "in_forks")
PRINTED = {"slow_to_clean": "cleaned\n", "lost": "deleted\n", "blocked": "whole\n", "in_forks": "both\n"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("main", MAINS)
def test_it_ends_in_order(main: str, number: signal.Signals) -> None:
    program = PROGRAM.format(main=main, signal=number.name)
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600, check=False)
    assert process.returncode == 128 + number
    assert process.stderr == f"stopped by {number.name}\n"
    assert process.stdout == PRINTED.get(main, "")
