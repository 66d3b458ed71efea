#!/usr/bin/env python3
"""The compiler over whole configs: every file of configs/, and small configs of each kind of model.

usage: test_pipeline.py MUSEC MUSE_OPT SOURCE_ROOT

For each: a dump after every pass reads back to the same text; going on from a dump gives the plan of the straight run;
two runs give the same bytes. Then the options that control passes, and the size of the largest config."""
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import time

MUSEC, MUSE_OPT, ROOT = (os.path.abspath(a) for a in sys.argv[1:4])

SMALL = {'vocab_size': 211, 'd_model': 96, 'n_layers': 2, 'num_heads': 3, 'n_seq': 80, 'local_window': 16,
         'batch_size': 2, 'eos_token_id': 7, 'learning_rate': 0.002, 'warmup_steps': 2, 'max_steps': 6}
DENSE = {'use_bitnet': 'false', 'use_mixed_precision': 'false'}
BITNET = {'use_bitnet': 'true', 'use_mixed_precision': 'false'}
ATTENTION = {'use_birman_schwinger': 'false', 'use_hybrid_attention': 'false'}
BK = {'use_birman_schwinger': 'true', 'use_hybrid_attention': 'false'}
LOCAL = {'use_birman_schwinger': 'false', 'use_hybrid_attention': 'true'}
HYBRID = {'use_birman_schwinger': 'true', 'use_hybrid_attention': 'true'}
QHTT = {'use_htt_embedding': 'true', 'htt_rank': 12, 'quantized_htt': 'true'}
KINDS = {
    'attention-dense': ATTENTION | DENSE,
    'bk-dense': BK | DENSE,
    'local-dense': LOCAL | DENSE,
    'local-euclidean-dense': LOCAL | DENSE | {'local_score': 'euclidean'},
    'hybrid-dense': HYBRID | DENSE,
    'hybrid-bitnet': HYBRID | BITNET,
    'hybrid-bitnet-gelu': HYBRID | BITNET | {'d_model': 128, 'n_layers': 3, 'num_heads': 4, 'n_seq': 130,
                                             'local_window': 64, 'ffn_activation': 'gelu'},
    'hybrid-bitnet-qhtt': HYBRID | BITNET | QHTT,
    'all': HYBRID | QHTT | {'use_bitnet': 'true', 'use_mixed_precision': 'true', 'use_gradient_checkpointing': 'true',
                            'optimizer': 'adafactor8', 'use_lap': 'true', 'use_mourre': 'true',
                            'gradient_accumulation_steps': 2},
}
failures = []
passed = 0


def expect(condition, message):
    global passed
    if condition:
        passed += 1
    else:
        failures.append(message)
        print(f'FAIL {message}', flush=True)


def run(program, *args, status=0):
    done = subprocess.run([program, *args], stdin=subprocess.DEVNULL, capture_output=True)
    err = done.stderr.decode('utf-8', 'replace')
    expect(done.returncode == status,
           f'{os.path.basename(program)} {" ".join(args)}: exit code {done.returncode}\n{err[-2000:]}')
    return done.stdout, err


def read(path):
    with open(path, 'rb') as f:
        return f.read()


def plan_of(config, path, *options):
    run(MUSEC, config, '-o', path, *options)
    return read(path) if os.path.exists(path) else b''


def meaning(dump):
    """Its text without the count of passes, which every pass raises."""
    return re.sub(rb'passes_done = \d+', b'', read(dump), count=1)


def passes_of(dumps):
    """The pipeline as the names of the dumps tell it."""
    return [os.path.basename(d)[4:-len('-after.mir')] for d in dumps]


def check_config(name, config, folder, sparse, options=()):
    """sparse: go on from a few dumps only, and leave out what small configs show as well."""
    started = time.monotonic()
    dump_dir = os.path.join(folder, 'dumps')
    plan = plan_of(config, os.path.join(folder, 'straight.plan'), '--dump-ir=all', '--dump-dir=' + dump_dir, *options)
    again = plan_of(config, os.path.join(folder, 'again.plan'), *options)
    expect(again == plan, f'{name}: two runs gave different plans')
    dumps = sorted(glob.glob(os.path.join(dump_dir, '*.mir')))
    names = passes_of(dumps)
    expect(len(dumps) > 15, f'{name}: {len(dumps)} dumps')
    for i, dump in enumerate(dumps):
        text = read(dump)
        expect(run(MUSE_OPT, dump)[0] == text, f'{name}: {os.path.basename(dump)} reads back to another text')
        if not sparse or i % 7 == 3:
            on = plan_of(dump, os.path.join(folder, f'on-{i}.plan'))
            expect(on == plan, f'{name}: going on from {os.path.basename(dump)} gives another plan')
    straight = os.path.join(folder, 'straight.plan')
    expect(run(MUSE_OPT, straight)[0] == plan, f'{name}: the plan reads back to another text')
    expect(plan_of(straight, os.path.join(folder, 'on.plan')) == plan, f'{name}: the plan compiles to another plan')
    if not sparse:
        check_control(name, config, folder, dumps, names, options)
    seconds = time.monotonic() - started
    print(f'{name}: {len(dumps)} dumps, plan of {len(plan) / 1e6:.1f} MB, {seconds:.1f} s', flush=True)


def check_control(name, config, folder, dumps, names, options):
    for i in range(len(names) + 1):
        out, _ = run(MUSEC, config, f'--bisect={i}', '--emit=mir', *options)
        if 0 < i < len(names) and 'outline' not in names[:i]:  # else there are kernels, and musec plans their memory
            expect(out == read(dumps[i - 1]), f'{name}: --bisect={i} is not the dump after {names[i - 1]}')
    for p in sorted(set(names)):
        out, _ = run(MUSEC, config, f'--stop-after={p}', '--emit=mir', *options)
        if p not in ('outline', names[-1]):
            expect(out == read(dumps[names.index(p)]), f'{name}: --stop-after={p} is not the dump after the first {p}')
        out, _ = run(MUSEC, config, f'--skip-pass={p}', '--emit=mir', *options)
        expect(out.startswith(b'module '), f'{name}: --skip-pass={p} prints no module')
    _, err = run(MUSEC, config, '--stop-after=fuse', '--check', status=2)
    expect("there is no pass 'fuse'" in err, f'{name}: {err}')
    _, err = run(MUSEC, config, '--dump-ir=between:cse', '--check', status=2)
    expect('use after:NAME, before:NAME, changed or all' in err, f'{name}: {err}')
    changed = os.path.join(folder, 'changed')
    run(MUSEC, config, '--check', '--dump-ir=changed', '--dump-ir=before:outline', '--dump-dir=' + changed, *options)
    there = {os.path.basename(p) for p in glob.glob(os.path.join(changed, '*'))}
    before = [p for p in there if p.endswith('-outline-before.mir')]
    expect(len(before) == 1 and read(os.path.join(changed, before[0])) == read(dumps[names.index('outline') - 1]),
           f'{name}: --dump-ir=before:outline is not the dump of the pass before')
    for i, dump in enumerate(dumps[1:], 1):
        is_there = os.path.basename(dump) in there
        expect(is_there or meaning(dump) == meaning(dumps[i - 1]),
               f'{name}: {os.path.basename(dump)} changed, and --dump-ir=changed left it out')


def check_largest(folder):
    """The 10 B config: its parameters, and the memory that compiling it takes."""
    config = os.path.join(ROOT, 'configs/phase8_10b.yaml')
    plan = os.path.join(folder, '10b.plan')
    started = time.monotonic()
    pid = os.posix_spawn(MUSEC, [MUSEC, config, '-o', plan], os.environ)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.monotonic() - started
    expect(status == 0, f'phase8_10b: status {status}')
    cpu = usage.ru_utime + usage.ru_stime
    print(f'phase8_10b: compiled in {seconds:.2f} s ({cpu:.2f} s of CPU), {usage.ru_maxrss / 1e3:.0f} MB', flush=True)
    if not os.environ.get('ASAN_OPTIONS'):
        expect(usage.ru_maxrss * 1024 <= 500e6, f'phase8_10b: compiling takes {usage.ru_maxrss} KiB')
    estimate = json.loads(run(MUSEC, config, '--estimate', '--json')[0])
    nominal = estimate['nominal_parameters']
    expect(nominal == 10009072640, f'phase8_10b: {nominal} nominal parameters')
    estimate = run(MUSEC, config, '--estimate')[0].decode()
    expect('10009072640' in estimate, 'phase8_10b: --estimate does not say its parameters')
    config = os.path.join(ROOT, 'configs/phase8_10b_rtx3080.yaml')
    _, err = run(MUSEC, config, '--memory-budget=1GiB', '--check', status=3)
    expect('the memory budget is' in err, f'phase8_10b_rtx3080: {err}')


def check_golden_files():
    for line in run(MUSEC, '--list-passes')[0].decode().splitlines():
        name = line.split()[0]
        file = f'tests/golden/passes/{name}.mir'
        expect(os.path.exists(os.path.join(ROOT, file)), f'there is no {file}')


def main():
    check_golden_files()
    for name, keys in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            config = os.path.join(folder, 'config.yaml')
            with open(config, 'w', encoding='utf-8') as f:
                f.writelines(f'{key}: {value}\n' for key, value in (SMALL | keys).items())
            check_config(name, config, folder, sparse=False)
    for config in sorted(glob.glob(os.path.join(ROOT, 'configs/*.yaml'))):
        if os.path.basename(config) in ('dataset_mixing.yaml', 'datasets.yaml'):
            continue  # a recipe of data
        with tempfile.TemporaryDirectory() as folder:
            check_config(os.path.basename(config), config, folder, sparse=True, options=('--memory-budget=1000TiB',))
    with tempfile.TemporaryDirectory() as folder:
        check_largest(folder)
    print(f'{passed} passed, {len(failures)} failed, 0 skipped')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
