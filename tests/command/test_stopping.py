"""Commands that are stopped end in order, whatever libraries make of the exception that ends them."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, time
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

line.run({main})
"""
PRINTED = {"slow_to_clean": "cleaned\n", "lost": "deleted\n"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("main", ["stop", "swallowed", "turned", "slow_to_clean", "lost"])
def test_it_ends_in_order(main: str, number: signal.Signals) -> None:
    program = PROGRAM.format(main=main, signal=number.name)
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600, check=False)
    assert process.returncode == 128 + number
    assert process.stderr == f"stopped by {number.name}\n"
    assert process.stdout == PRINTED.get(main, "")
