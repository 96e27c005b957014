"""The chart engine: a program of its own that renders charts, since it may panic or want for memory, and ends then.

It is run by its path, and reads requests from its input: a line of JSON each. It answers each with a line of JSON that
says how many bytes follow, and these. `rendering` asks it.
"""

from __future__ import annotations

import json
import sys

import vl_convert


def main() -> None:
    """Answer requests until there are no more; the arguments are the folder of the fonts and Vega-Lite's version."""
    fonts, version = sys.argv[1:]
    vl_convert.register_font_directory(fonts)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            if request["kind"] == "svg":
                content = vl_convert.vegalite_to_svg(request["chart"], vl_version=version).encode()
            else:
                content = vl_convert.vegalite_to_png(request["chart"], vl_version=version, scale=request["scale"])
            answer: dict[str, int | str] = {"bytes": len(content)}
        except ValueError as error:  # of a chart that cannot be drawn; the asker says it
            content, answer = b"", {"bytes": 0, "fault": str(error)[:500]}
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + content)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
