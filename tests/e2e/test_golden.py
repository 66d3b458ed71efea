#!/usr/bin/env python3
"""The reference cases of the model: loss, logits, gradients, Green's functions and six AdamW steps, computed in float64
by an independent program, against what the compiled plans compute, in f32 and in mixed precision. Their folder is the
meson option golden_dir."""
import json
import os
import unittest

import programs
from programs import cosine, load, relative_error, run

GOLDEN = os.environ.get('MUSE_GOLDEN', '')
CASES = []
if os.path.isdir(GOLDEN):
    CASES = sorted(d for d in os.listdir(GOLDEN) if os.path.exists(os.path.join(GOLDEN, d, 'expected.json')))

DENSE = dict(loss=1e-5, logits=1e-4, gradient=1e-4, cosine=None, step=1e-4, green=1e-4)
BITNET = dict(loss=2e-3, logits=1e-2, gradient=5e-2, cosine=0.998, step=1e-2, green=1e-2)

# Mixed precision: the loss, and the cosine of all gradients as one vector and of each. An activation that 16 bits move
# over a half gets another int8 value, in BitNet cases at hundreds of places of these small models; which ones is chance,
# and rounding a single tensor of the first layer, whichever, loses about as much as rounding all. In hybrid-bitnet-qhtt
# one token's gradient hangs on a q.k near 0 besides (docs/performance.md has the measurements).
MIXED = dict(loss=2e-3, all=0.999, each=0.98)
MIXED_BITNET = {'hybrid-bitnet': dict(loss=2e-2, all=0.99, each=0.985)}
MIXED_FLIPS = dict(loss=2e-2, all=0.985, each=0.94)

# AdamW's first step divides a gradient by its size and eps = 1e-8. One element of 243,504 decides this case's sixth loss:
# layers.0.mixer.k.weight[9196], 4.2e-8, which f32 gets wrong by 0.4 to 5e-8; the training then multiplies what this
# moves about eightfold a step. Rounding alone, in exact kernels, moves the loss by 5e-5 (one standard deviation).
SIXTH_STEP = {'hybrid-dense': 5e-4}


@unittest.skipUnless(CASES, f'there are no reference cases in {GOLDEN!r} (meson option golden_dir)')
class Golden(programs.Scratch):
    device = ()  # options of muse-run; the GPU's tests have others, and bars of their own where chance decides
    sixth_step = SIXTH_STEP

    def mixed_bar(self, name):
        return MIXED_BITNET.get(name, MIXED_FLIPS) if 'bitnet' in name else MIXED

    def check_case(self, name):
        bar = BITNET if 'bitnet' in name else DENSE
        folder = os.path.join(GOLDEN, name)
        with open(os.path.join(folder, 'expected.json'), encoding='utf-8') as f:
            expected = json.load(f)
        file = os.path.join(folder, 'expected.safetensors')
        params = os.path.join(folder, 'params.safetensors')
        plan, out = self.path('case.plan'), self.path('out.safetensors')
        run('musec', os.path.join(folder, 'config.yaml'), '-o', plan)
        run('muse-run', 'tensors', plan, '--params', params, '--tokens', file, '--out', out, *self.device)
        got, want, worst = load(out), load(file), {}
        self.assertLessEqual(abs(got['loss'].data[0] - expected['loss']), bar['loss'])
        self.assertEqual(set(want) - {'tokens'}, set(got) - {'loss'})
        for tensor in sorted(set(want) - {'tokens'}):
            kind = 'gradient' if tensor.startswith('grad.') else 'green' if tensor.endswith('.green') else 'logits'
            self.assertEqual(got[tensor].shape, want[tensor].shape, tensor)
            error = relative_error(got[tensor].data, want[tensor].data)
            worst[kind] = max(worst.get(kind, (0, '')), (error, tensor))
            with self.subTest(tensor=tensor):
                self.assertLessEqual(error, bar[kind])
                if kind == 'gradient' and bar['cosine']:
                    self.assertGreaterEqual(cosine(got[tensor].data, want[tensor].data), bar['cosine'])
        done = run('muse-run', 'train', plan, '--params', params, '--tokens', file, '--json', *self.device)
        steps = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(len(steps), len(expected['train_losses']))
        for i, step in enumerate(steps):
            with self.subTest(step=i):
                limit = self.sixth_step.get(name, bar['step']) if i == 5 else bar['step']
                self.assertLessEqual(abs(step['loss'] - expected['train_losses'][i]), limit)
        off = max(abs(s['loss'] - e) for s, e in zip(steps, expected['train_losses']))
        print(f'{name}: loss off by {abs(got["loss"].data[0] - expected["loss"]):.1e}, six steps by {off:.1e}, worst',
              ', '.join(f'{k} {e:.1e} ({t})' for k, (e, t) in sorted(worst.items())), flush=True)


    def check_mixed(self, name):
        bar = self.mixed_bar(name)
        folder = os.path.join(GOLDEN, name)
        with open(os.path.join(folder, 'expected.json'), encoding='utf-8') as f:
            expected = json.load(f)
        file = os.path.join(folder, 'expected.safetensors')
        plan, out = self.path('mixed.plan'), self.path('mixed.safetensors')
        run('musec', os.path.join(folder, 'config.yaml'), '--set', 'use_mixed_precision=true', '-o', plan)
        run('muse-run', 'tensors', plan, '--params', os.path.join(folder, 'params.safetensors'), '--tokens', file,
            '--out', out, *self.device)
        got, want = load(out), load(file)
        off = abs(got['loss'].data[0] - expected['loss'])
        self.assertLessEqual(off, bar['loss'])
        self.assertGreater(off, 0, 'the plan computes in f32')
        names = sorted(t for t in want if t.startswith('grad.'))
        self.assertTrue(names)
        worst = min((cosine(got[t].data, want[t].data), t) for t in names)
        together = cosine([x for t in names for x in got[t].data], [x for t in names for x in want[t].data])
        print(f'{name}, mixed: loss off by {off:.1e}, cosine of all gradients {together:.4f}, least {worst[0]:.4f}',
              f'({worst[1]})', flush=True)
        self.assertGreaterEqual(together, bar['all'])
        self.assertGreaterEqual(worst[0], bar['each'], worst[1])


def add(name):
    setattr(Golden, 'test_' + name.replace('-', '_'), lambda self: self.check_case(name))
    setattr(Golden, 'test_mixed_' + name.replace('-', '_'), lambda self: self.check_mixed(name))


for case in CASES or ['missing']:
    add(case)

if __name__ == '__main__':
    programs.main()
