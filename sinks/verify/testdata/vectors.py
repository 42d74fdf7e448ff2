"""Prints what verify.py says of each of vectors.json, as a JSON list: true, false, or what it raises."""
import json
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(here))
from verify import verify  # noqa: E402


def judge(v):
    try:
        return verify(v.get("signature", v["dialect"]), v["headers"], v["body"].encode(), v["keys"], v["tolerance"], v["now"])
    except ValueError as e:
        return str(e)


with open(os.path.join(here, "..", "vectors.json"), encoding="utf-8") as f:
    vectors = json.load(f)["vectors"]
print(json.dumps([judge(v) for v in vectors]))
