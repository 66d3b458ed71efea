#!/usr/bin/env python3
"""What the kernels of a function of a plan move: one line a kernel, then sums.

    bench/plan_bytes.py PLAN [--func grad] [--layer N] [--bandwidth 4.2e12]

Bytes are those of operands and results, each once: the least a kernel can move. The time is that at the bandwidth given.
Kernels with an integer or floating-point product are summed apart, for they are bound by arithmetic.
"""
import argparse
import math
import re

BITS = {"f64": 64, "i64": 64, "f32": 32, "i32": 32, "u32": 32, "bf16": 16, "f16": 16, "i8": 8, "u8": 8, "bool": 8,
        "t2": 2, "t5": 1.6}
TYPE = re.compile(r"(f64|i64|f32|i32|u32|bf16|f16|i8|u8|bool|t2|t5)\[([0-9,]*)\]")
PRODUCTS = {"ternary_matmul", "int8_matmul", "matmul"}


def size(kind, dims):
    return math.prod([int(d) for d in dims.split(",") if d]) * BITS[kind] / 8


def kernels(text, func):
    """(skeleton, layer, stage, operand types, result types, ops, loc key) of each kernel of @func."""
    body = text[text.index(f"func @{func}("):]
    end = body.find("\n}\n")
    lines = body[:end].split("\n")
    head = None
    for line in lines[1:]:
        if " = kernel " in line or line.startswith("  kernel "):
            head, ops = line, []
        elif head and line.startswith("  ^("):
            operands = TYPE.findall(line)
        elif head and line == "  }":
            tail = head[head.index("}", head.index("{skeleton")) + 1:] if "{skeleton" in head else head
            results = TYPE.findall(tail.split(" loc(")[0])
            skeleton = re.search(r'skeleton = "(\w+)"', head).group(1)
            layer = re.search(r"layer\((\d+)\)", head)
            stage = re.search(r"(forward|backward|update)", head.split("loc(")[-1])
            yield skeleton, int(layer.group(1)) if layer else -1, stage.group(1) if stage else "", operands, results, ops
            head = None
        elif head:
            m = re.match(r"\s+(?:[%\d, ]+ = )?(\w+)", line)
            if m and m.group(1) not in ("const", "yield"):
                ops.append(m.group(1))


def short(types):
    counts = {}
    for kind, dims in types:
        key = f"{kind}[{dims}]"
        counts[key] = counts.get(key, 0) + 1
    return " ".join(f"{n}x{k}" if n > 1 else k for k, n in counts.items())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("plan")
    p.add_argument("--func", default="grad")
    p.add_argument("--layer", type=int, default=None)
    p.add_argument("--bandwidth", type=float, default=4.2e12)
    p.add_argument("--quiet", action="store_true", help="sums only")
    a = p.parse_args()
    total = {True: [0, 0.0], False: [0, 0.0]}
    small = 0
    for skeleton, layer, stage, operands, results, ops in kernels(open(a.plan).read(), a.func):
        if a.layer is not None and layer != a.layer:
            continue
        n = sum(size(*t) for t in operands + results)
        product = skeleton in PRODUCTS
        total[product][0] += 1
        total[product][1] += n
        us = n / a.bandwidth * 1e6
        small += us < 3 and not product
        if not a.quiet:
            print(f"{us:8.1f} us {n / 1e6:9.2f} MB  {skeleton:18} L{layer} {stage[:3]} {len(ops):3} ops  "
                  f"{short(operands)} -> {short(results)}  [{' '.join(dict.fromkeys(ops))}]")
    for product, name in ((False, "other kernels"), (True, "product kernels")):
        n, moved = total[product]
        print(f"{name:16} {n:5}  {moved / 1e9:8.3f} GB  {moved / a.bandwidth * 1e3:7.3f} ms at {a.bandwidth / 1e12:g} TB/s")
    print(f"under 3 us: {small} of the other kernels")


if __name__ == "__main__":
    main()
