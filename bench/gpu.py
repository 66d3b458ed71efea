#!/usr/bin/env python3
"""What docs/performance.md says of a GPU: MUSE and PyTorch in one run, on the GPU of this machine.

    python3 bench/gpu.py [--build build] [--no-peers] [layer mixer update model kernels]

Plans are made of configs/phase8_10b.yaml with one layer (and phase8_1b.yaml for `model`), in a folder that is removed.
Every line is a JSON object. Times of a layer are the sums of its kernels, each timed by events inside a graph.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIGS = os.path.join(HERE, '..', 'configs')
LAYER = {'n_layers': 1, 'gradient_accumulation_steps': 1, 'use_gradient_checkpointing': 'false'}


def report(**line):
    print(json.dumps(line), flush=True)


class Bench:
    def __init__(self, build, folder):
        self.build, self.folder = os.path.abspath(build), folder

    def run(self, program, *args):
        command = [os.path.join(self.build, program), *args]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:  # it has said why
            sys.exit(f"error: '{' '.join(command)}' failed ({done.returncode})")
        return done.stdout

    def plan(self, name, config, **keys):
        path = os.path.join(self.folder, name + '.plan')
        sets = [x for k, v in keys.items() for x in ('--set', f'{k}={v}')]
        self.run('musec', os.path.join(CONFIGS, config), *sets, '-o', path)
        return path

    def bench(self, plan, function, repeats=5):
        return json.loads(self.run('muse-run', 'bench', plan, '--device', 'cuda', '-f', function,
                                   '--repeats', str(repeats), '--json', '-q'))


def place(kernel):
    """'layer 0, d_model, backward, kernel ...' -> ('d_model', 'backward'); None outside of layers."""
    parts = kernel['kernel'].split(', ')
    return (parts[1], parts[2]) if parts[0].startswith('layer') else None


def layer(b):
    """One layer of phase8_10b, 8 rows of 512 tokens, forward + backward, activations kept."""
    found = b.bench(b.plan('layer', 'phase8_10b.yaml', batch_size=8, **LAYER), 'grad')
    kernels = [k for k in found['kernels'] if place(k)]
    report(name='layer 5120, hybrid, forward + backward', ms=1e3 * sum(k['seconds'] for k in kernels))
    for k in sorted(kernels, key=lambda k: -k['seconds'])[:12]:
        report(name=k['kernel'], calls=k['calls'], us=1e6 * k['seconds'], share_of_copy=k['share_of_copy'],
               share_of_arithmetic=k['share_of_arithmetic'])


def mixer(b):
    """The Birman-Schwinger mixer alone, 40 heads of 128: potential, green, resolvent, norms."""
    for tokens in (4096, 65536):
        plan = b.plan(f'bk{tokens}', 'phase8_10b.yaml', batch_size=1, n_seq=tokens, use_hybrid_attention='false',
                      **LAYER)
        sums = {'forward': 0, 'backward': 0}
        for k in b.bench(plan, 'grad', 3)['kernels']:
            if place(k) and place(k)[0] == 'use_birman_schwinger':
                sums[place(k)[1]] += 1e3 * k['seconds']
        report(name=f'BK mixer with the norms of q and k, T = {tokens}', forward_ms=sums['forward'],
               forward_backward_ms=sum(sums.values()))


def update(b):
    """@update of a layer of phase8_10b and of phase8_1b: bytes that it must move against a measured copy."""
    plans = {'a layer of phase8_10b': b.plan('u10', 'phase8_10b.yaml', batch_size=8, **LAYER),
             'phase8_1b': b.plan('u1', 'phase8_1b.yaml', gradient_accumulation_steps=1)}
    for name, plan in plans.items():
        found = b.bench(plan, 'update')
        whole = next(f['seconds'] for f in found['functions'] if f['function'] == 'update')
        adam = [k for k in found['kernels'] if 'optimizer' in k['kernel'] and k['bytes'] > 1e6]
        for what, kernels, seconds in ((name, found['kernels'], whole),
                                       (name + ', optimizer alone', adam, sum(k['seconds'] for k in adam))):
            moved = sum(k['bytes'] * k['calls'] for k in kernels)
            report(name='@update of ' + what, ms=1e3 * seconds,
                   share_of_copy=moved / seconds / found['copy_bytes_per_second'])


def model(b):
    """phase8_1b with 32 x 512 tokens a step: its functions."""
    plan = b.plan('1b', 'phase8_1b.yaml', batch_size=32, gradient_accumulation_steps=1)
    for function in ('grad', 'norms', 'update'):
        found = b.bench(plan, function, 3)
        operations = sum((k['flops'] + k['int_ops']) * k['calls'] for k in found['kernels'])
        for f in found['functions']:
            report(name='phase8_1b, 16384 tokens, @' + f['function'], ms=1e3 * f['seconds'],
                   tops=operations / f['seconds'] * 1e-12)


def kernels(b):
    """cuda-device's own cases: products, BitLinear's pieces, scans, on random data."""
    for family in ('product', 'wgmma', 'scan'):
        done = b.run('tests/cuda-device', 'bench:' + family)
        for line in done.splitlines():
            if ' us ' in line:
                report(name=' '.join(line.split()))


PARTS = {'layer': layer, 'mixer': mixer, 'update': update, 'model': model, 'kernels': kernels}
PEERS = {'layer': ['layer'], 'mixer': ['attention', 'scan'], 'update': ['adamw'], 'model': [], 'kernels': ['bitlinear']}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('parts', nargs='*', metavar='PART', help=', '.join(PARTS))
    parser.add_argument('--build', default='build')
    parser.add_argument('--no-peers', action='store_true', help='leave PyTorch out')
    args = parser.parse_args()
    parts = args.parts or list(PARTS)
    for name in parts:
        if name not in PARTS:
            parser.error(f"there is no part '{name}'; take some of {', '.join(PARTS)}")
    for program in ('musec', 'muse-run', 'tests/cuda-device'):
        if not os.access(os.path.join(args.build, program), os.X_OK):
            parser.error(f"'{args.build}' has no {program}; build with tests (make build, or ninja -C {args.build})")
    with tempfile.TemporaryDirectory() as folder:
        b = Bench(args.build, folder)
        for name in parts:
            PARTS[name](b)
    peers = ['copy', *(p for name in parts for p in PEERS[name])]
    if not args.no_peers:
        command = [sys.executable, os.path.join(HERE, 'peers', 'pytorch_peers.py'), *peers]
        if subprocess.run(command).returncode:
            sys.exit('error: the peers did not run; they need PyTorch and Triton (--no-peers leaves them out)')


if __name__ == '__main__':
    main()
