#!/usr/bin/env python3
"""Training as a user sees it: the loss falls, validation, samples, reports, and numbers that go bad."""
import array
import json
import os
import random

import programs
from programs import Tensor, load, run, save

CONFIG = programs.SMALL_HYBRID + '''use_lap: true
use_mourre: true
batch_size: 8
max_steps: 80
warmup_steps: 5
learning_rate: 6e-3
save_interval: 40
eval_interval: 40
eval_batches: 2
sample_interval: 40
sample_tokens: 20
sample_prompt: "the "
log_interval: 20
'''


def small(*lines):
    return CONFIG.replace('tokenizer: bytes\n', '').replace('vocab_size: 257', 'vocab_size: 61') \
        .replace('eos_token_id: 256', 'eos_token_id: 7') + '\n'.join(lines)


class Train(programs.Scratch):
    def corpus(self, name, words, n):
        os.makedirs(self.path(name), exist_ok=True)
        draw = random.Random(3)
        for i in range(3):
            with open(self.path(name, f'{i}.txt'), 'w', encoding='utf-8') as f:
                f.write(' '.join(draw.choice(words) for _ in range(n + i)))
        run('muse-data', 'tokenize', self.path(name), '-o', self.path(name + '-set'), '-q')
        return self.path(name + '-set')

    def metrics(self, folder):
        return [json.loads(line) for line in open(self.path(folder, 'metrics.jsonl'), encoding='utf-8')]

    def test_training(self):
        data = self.corpus('text', ['operator', 'green', 'the', 'of', 'seed'], 8000)
        plan = self.plan(CONFIG)
        done = run('muse-run', 'train', plan, '--data', data, '-o', self.path('run'))
        self.assertRegex(done.stderr, r'step 20/80 +loss \d')
        self.assertRegex(done.stderr, r'sample after step 80: the ')
        self.assertRegex(done.stdout, r'^step 80: loss [\d.]+, best validation loss [\d.]+, 40960 tokens')
        lines = self.metrics('run')
        train = [line for line in lines if line['kind'] == 'train']
        self.assertEqual([line['step'] for line in train], list(range(1, 81)))
        self.assertGreater(train[0]['loss'], 5)
        self.assertLess(train[-1]['smoothed_loss'], 2)
        self.assertAlmostEqual(train[0]['learning_rate'], 6e-3 / 5)
        self.assertAlmostEqual(train[4]['learning_rate'], 6e-3)
        validation = [line for line in lines if line['kind'] == 'validation']
        self.assertEqual([line['step'] for line in validation], [40, 80])
        self.assertLess(validation[-1]['loss'], 2)
        self.assertAlmostEqual(validation[-1]['bits_per_byte'], validation[-1]['loss'] / 0.6931471805599453)
        self.assertEqual([line['step'] for line in lines if line['kind'] == 'sample'], [40, 80])
        for layer in (0, 1):
            for line in (train[0], train[19]):
                self.assertLessEqual(line[f'lap.max_g.{layer}'], 1 + 1e-5)  # the limiting absorption principle
                self.assertGreater(line[f'lap.min_eta.{layer}'], 0)
                self.assertEqual(len(line[f'mourre.kappa.{layer}']), 2)
                self.assertTrue(all(kappa >= 0 for kappa in line[f'mourre.kappa.{layer}']))
        self.assertNotIn('lap.max_g.0', train[1])
        # eval on all that is held out, and generation
        one = json.loads(run('muse-run', 'eval', plan, '--data', data, '-c', self.path('run'), '--json', '-q').stdout)
        self.assertEqual(one['step'], 80)
        self.assertLess(abs(one['loss'] - validation[-1]['loss']), 0.5)
        greedy = ['generate', plan, '-c', self.path('run'), '--prompt', 'the gr', '-n', 40, '-t', 0, '-q']
        a, b = run('muse-run', *greedy).stdout, run('muse-run', *greedy, '--top-k', 5, '-j', 1).stdout
        self.assertEqual(a, b)
        self.assertTrue(a.startswith('the gr'))
        self.assertTrue(set(a.split()[2:-1]) <= {'operator', 'green', 'the', 'of', 'seed'} or len(set(a)) > 3, a)
        wild = ['generate', plan, '-c', self.path('run', 'step-80'), '--prompt', 'seed ', '-n', 40, '-t', 1.5, '-q']
        texts = [run('muse-run', *wild, '--seed', seed).stdout for seed in (1, 1, 2)]
        self.assertEqual(texts[0], texts[1])
        self.assertNotEqual(texts[0], texts[2])
        self.assertEqual(run('muse-run', *wild, '--top-p', 1e-6).stdout, run('muse-run', *wild, '--top-k', 1).stdout)
        result = json.loads(run('muse-run', *wild, '--json').stdout)
        self.assertLessEqual(result['tokens'], 40)
        # a new run from these parameters starts where they are
        run('muse-run', 'train', plan, '--data', data, '--init', self.path('run'), '-o', self.path('next'),
            '--steps', 2, '--learning-rate', 0, '-q')
        self.assertLess(next(line for line in self.metrics('next') if line['kind'] == 'train')['loss'], 2.2)

    def test_generation_goes_beyond_n_seq(self):
        for mixer in ('use_hybrid_attention=true', 'use_hybrid_attention=false'):
            plan = self.plan(CONFIG, mixer)
            done = run('muse-run', 'generate', plan, '-n', 300, '--raw', '--json', '--prompt', 'x', '-q')
            self.assertIn('"tokens":', done.stdout)
        # a document can start from nothing
        run('muse-run', 'generate', plan, '-n', 3, '-q')

    def test_mixture(self):
        a, b = self.corpus('a', ['alpha', 'beta'], 6000), self.corpus('b', ['gamma', 'delta'], 3000)
        with open(self.path('mix.yaml'), 'w', encoding='utf-8') as f:
            f.write(f'datasets:\n  a:\n    path: {a}\n    weight: 3\n  b:\n    path: {b}\n    weight: 1\n')
        done = run('muse-run', 'train', self.plan(CONFIG), '--data', self.path('mix.yaml'), '-o', self.path('run'),
                   '--steps', 10, '--eval-interval', 0, '--sample-interval', 0)
        self.assertRegex(done.stderr, r'a +75.00% +75.00%')
        self.assertRegex(done.stderr, r'b +25.00% +25.00%')

    def test_tokens_tensor(self):
        draw = random.Random(1)
        rows = [[[draw.randrange(61) for _ in range(65)] for _ in range(8)] for _ in range(3)]
        programs.tokens(self.path('tokens.safetensors'), rows)
        plan = self.plan(small())
        done = run('muse-run', 'train', plan, '--tokens', self.path('tokens.safetensors'), '--json')
        steps = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([s['step'] for s in steps], [1, 2, 3])
        self.assertEqual(set(steps[0]), {'step', 'loss', 'grad_norm', 'learning_rate'})
        out = self.path('out.safetensors')
        run('muse-run', 'tensors', plan, '--tokens', self.path('tokens.safetensors'), '-o', out)
        tensors = load(out)
        self.assertEqual(tensors['loss'].data[0], steps[0]['loss'])
        norm = sum(x * x for name, t in tensors.items() if name.startswith('grad.') for x in t.data) ** 0.5
        self.assertAlmostEqual(norm, steps[0]['grad_norm'], delta=1e-4 * norm)
        rows[1][3][5] = 61
        programs.tokens(self.path('bad.safetensors'), rows)
        done = run('muse-run', 'train', plan, '--tokens', self.path('bad.safetensors'), status=5)
        self.assertRegex(done.stderr, r"element \d+ of 'tokens' is 61")

    # ---- numbers that go bad ----

    def poisoned(self, plan, name, value, index=0):
        """Initial parameters with one element changed."""
        run('muse-run', 'init', plan, '-o', self.path('init'), '-q')
        tensors = load(self.path('init', 'step-0', 'model.safetensors'))
        tensors[name].data[index] = value
        save(self.path('poisoned.safetensors'), tensors)
        return self.path('poisoned.safetensors'), tensors

    def batches(self, steps):
        draw = random.Random(2)
        programs.tokens(self.path('tokens.safetensors'),
                        [[[draw.randrange(61) for _ in range(65)] for _ in range(8)] for _ in range(steps)])
        return self.path('tokens.safetensors')

    def test_bad_numbers_are_named_and_not_applied(self):
        plan = self.plan(small('use_bitnet: false').replace('use_bitnet: true\n', ''))
        params, before = self.poisoned(plan, 'layers.1.ffn.up.weight', 3e38)
        done = run('muse-run', 'train', plan, '--tokens', self.batches(9), '--params', params, '--json', '-o',
                   self.path('run'), status=4)
        steps = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([s.get('bad') for s in steps], [True] * 5)  # and then it stops
        self.assertRegex(done.stderr, r'step 1 was left out: .*it began in layer 1')
        self.assertRegex(done.stderr, r'bad in 5 steps in a row')
        self.assertIn('learning_rate', done.stderr)
        self.assertIn('use_mixed_precision: false', done.stderr)
        written = [line for line in self.metrics('run') if line['kind'] not in ('start', 'trits')]
        self.assertEqual([line['kind'] for line in written], ['bad'] * 5)
        self.assertIn('layer 1', written[0]['reason'])

    def test_gradients_too_large_to_be_squared(self):
        """The loss is finite, a gradient is not: that counts as well, and the parameters stay as they were."""
        plan = self.plan(small('use_bitnet: false').replace('use_bitnet: true\n', ''))
        params, before = self.poisoned(plan, 'final_norm.weight', 1e30, index=5)
        done = run('muse-run', 'train', plan, '--tokens', self.batches(5), '--params', params, '--json', status=4)
        self.assertTrue(all(json.loads(line).get('bad') for line in done.stdout.splitlines()))

    def test_nan_in_a_file_is_refused(self):
        plan = self.plan(small())
        params, _ = self.poisoned(plan, 'layers.0.mixer.k.weight', float('nan'), index=77)
        done = run('muse-run', 'train', plan, '--tokens', self.batches(2), '--params', params, status=2)
        self.assertRegex(done.stderr, r"element 77 of tensor 'layers.0.mixer.k.weight' is -?nan")

    def test_parameters_of_another_model_are_refused(self):
        plan = self.plan(small())
        _, tensors = self.poisoned(plan, 'embed.weight', 0.0)
        missing = {name: t for name, t in tensors.items() if name != 'layers.1.ffn.mid_norm.weight'}
        narrow = {'final_norm.weight': Tensor('F32', [63], array.array('f', [1] * 63))}
        stranger = {'stranger': Tensor('F32', [2], array.array('f', [1, 2]))}
        for other, sentences in [
            (missing, ["has no tensor 'layers.1.ffn.mid_norm.weight' (f32[256]), which the plan needs"]),
            (tensors | stranger, ["holds a tensor 'stranger', which is no parameter"]),
            (missing | stranger | narrow, ["tensor 'final_norm.weight' is F32 [63], the plan needs f32[64]",
                                           'and 2 more do not fit']),
        ]:
            save(self.path('other.safetensors'), other)
            done = run('muse-run', 'tensors', plan, '--tokens', self.batches(1), '--params',
                       self.path('other.safetensors'), '-o', self.path('out'), status=5)
            for sentence in sentences:
                self.assertIn(sentence, done.stderr)
            self.assertFalse(os.path.exists(self.path('out')))


if __name__ == '__main__':
    programs.main()
