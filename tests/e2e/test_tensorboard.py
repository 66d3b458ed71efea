#!/usr/bin/env python3
"""Event files that TensorBoard reads, by a reader of our own: frames, checksums, messages; across a resume."""
import glob
import json
import os
import random
import struct

import programs
from programs import run

CONFIG = programs.SMALL_HYBRID + '''use_lap: true
use_mourre: true
batch_size: 8
max_steps: 30
warmup_steps: 5
learning_rate: 6e-3
save_interval: 10
eval_interval: 10
eval_batches: 1
sample_interval: 10
sample_tokens: 12
sample_prompt: "the "
log_interval: 5
'''


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff


def records(path):
    with open(path, 'rb') as f:
        data = f.read()
    at = 0
    while at < len(data):
        (length, head) = struct.unpack_from('<QI', data, at)
        assert head == masked(data[at:at + 8]), path
        body = data[at + 12:at + 12 + length]
        assert len(body) == length and struct.unpack_from('<I', data, at + 12 + length)[0] == masked(body), path
        yield body
        at += 16 + length


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def fields(data):
    """[(number, value)] of a message; inner messages and text as bytes."""
    at, found = 0, []
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        else:
            size, at = {1: (8, at), 5: (4, at)}[key & 7] if key & 7 != 2 else varint(data, at)
            value, at = data[at:at + size], at + size
            assert len(value) == size
        found.append((key >> 3, value))
    return found


def doubles(data):
    return list(struct.unpack(f'<{len(data) // 8}d', data))


def events(folder):
    """[(step, {tag: value})] of all files of a run, in the order in which TensorBoard reads them."""
    found = []
    for path in sorted(glob.glob(os.path.join(folder, 'events.out.tfevents.*.muse'))):
        whole = [dict(fields(body)) for body in records(path)]
        assert whole[0][3] == b'brain.Event:2' and whole[1][7] == b'\x08\x01'  # the version; a session starts
        found.append((whole[1].get(2, 0), 'start'))
        for event in whole[2:]:
            values = {}
            for number, summary in fields(event[5]):
                assert number == 1
                value = dict(fields(summary))
                tag = value[1].decode()
                if 2 in value:
                    values[tag] = struct.unpack('<f', value[2])[0]
                elif 5 in value:
                    values[tag] = {k: doubles(v) for k, v in fields(value[5])}
                else:
                    tensor = dict(fields(value[8]))
                    assert tensor[1] == 7 and value[9] == b'\x0a\x06\x0a\x04text\x20\x02'
                    values[tag] = tensor[8].decode()
            found.append((event[2], values))
    return found


class TensorBoard(programs.Scratch):
    def setUp(self):
        super().setUp()
        os.mkdir(self.path('texts'))
        draw = random.Random(3)
        with open(self.path('texts', 'a.txt'), 'w', encoding='utf-8') as f:
            f.write(' '.join(draw.choice(['green', 'the', 'of', 'seed']) for _ in range(9000)))
        run('muse-data', 'tokenize', self.path('texts'), '-o', self.path('data'), '-q')

    def train(self, plan, *args):
        run('muse-run', 'train', plan, '--data', self.path('data'), '-o', self.path('run'), '-q', *args)

    def check_against_metrics(self):
        with open(self.path('run', 'metrics.jsonl'), encoding='utf-8') as f:
            lines = [json.loads(line) for line in f]
        wanted = [line for line in lines if line['kind'] not in ('start', 'kernel')]
        got = [(step, values) for step, values in events(self.path('run')) if values != 'start']
        self.assertEqual([step for step, _ in got], [line['step'] for line in wanted])
        for (step, values), line in zip(got, wanted):
            kind = line['kind']
            if kind == 'train':
                self.assertEqual(values['train/loss'], struct.unpack('<f', struct.pack('<f', line['loss']))[0])
                self.assertAlmostEqual(values['train/learning_rate'], line['learning_rate'], places=6)
                self.assertEqual('lap.max_g/1' in values, step == 1 or step % 5 == 0)
            elif kind == 'validation':
                self.assertAlmostEqual(values['validation/loss'], line['loss'], places=5)
            elif kind == 'sample':
                self.assertEqual(values['sample'].replace('\n    ', '\n')[:8], '    the ')
            elif kind == 'trits':
                for layer in range(2):
                    minus, zero, plus = line[f'trits.{layer}']
                    self.assertEqual(minus + zero + plus, 4 * 64 * 64 + 2 * 64 * 256)
                    self.assertGreater(min(minus, zero, plus), 0)
                    histogram = values[f'trits/{layer}']
                    self.assertEqual(histogram[7], [minus, zero, plus])
                    self.assertEqual(histogram[6], [-0.5, 0.5, 1.5])
                    self.assertEqual((histogram[1], histogram[2], histogram[4]), ([-1.0], [1.0], [plus - minus]))
            elif kind == 'mixture':
                self.assertEqual((values['share/data'], values['target/data']), (1, 1))
        return lines

    def test_events_say_what_metrics_say(self):
        plan = self.plan(CONFIG)
        self.train(plan)
        lines = self.check_against_metrics()
        self.assertEqual([line['step'] for line in lines if line['kind'] == 'trits'], [1, 10, 20, 30])
        self.assertEqual([line['step'] for line in lines if line['kind'] == 'start'], [0])
        kernels = [line for line in lines if line['kind'] == 'kernel']
        self.assertEqual({line['function'] for line in kernels} - {'grad', 'norms', 'update'}, set())
        self.assertTrue(kernels and all(line['seconds'] > 0 and line['calls'] >= 1 for line in kernels))

    def test_resume(self):
        plan = self.plan(CONFIG)
        self.train(plan, '--stop-after', 17)
        self.check_against_metrics()
        first = glob.glob(self.path('run', 'events.*'))
        self.assertEqual(len(first), 1)
        with open(first[0], 'ab') as f:
            f.write(b'torn')
        # As after a kill: the newest checkpoint is older than what was written down.
        os.rename(self.path('run', 'step-17'), self.path('gone'))
        self.train(plan, '--resume')
        self.check_against_metrics()
        starts = [step for step, values in events(self.path('run')) if values == 'start']
        self.assertEqual(starts, [0, 11])

    def test_without(self):
        self.train(self.plan(CONFIG, 'tensorboard=false'), '--steps', 2)
        self.assertEqual(glob.glob(self.path('run', 'events.*')), [])


if __name__ == '__main__':
    programs.main()
