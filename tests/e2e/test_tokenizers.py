#!/usr/bin/env python3
"""Tokenizers as a user meets them: ids against those of the reference implementations (tests/tokenizers/golden.json),
token sets, training, generation, and what is refused."""
import array
import hashlib
import json
import os
import subprocess
import sys

import programs
from programs import run

FOLDER = os.path.join(programs.SOURCE, 'tests', 'tokenizers')
sys.path.insert(0, FOLDER)
import sample  # noqa: E402

WITH_SENTENCEPIECE = 'libsentencepiece-dev' not in run('muse-data', 'tokenizer', 'show', os.path.join(
    FOLDER, 'bpe.model'), status=None).stderr
GOLDEN = json.load(open(os.path.join(FOLDER, 'golden.json'), encoding='utf-8'))
NAMES = [n for n in GOLDEN['of'] if WITH_SENTENCEPIECE or n.endswith('.json')]

CONFIG = programs.SMALL_HYBRID.replace('tokenizer: bytes', 'tokenizer: TOKENIZER').replace(
    'vocab_size: 257', 'vocab_size: 2048').replace('eos_token_id: 256', 'eos_token_id: 1300') + '''batch_size: 4
max_steps: 6
learning_rate: 1e-3
save_interval: 3
'''


def tool(*arguments, data=b''):
    done = subprocess.run([programs.program('muse-data'), 'tokenizer', *arguments], input=data, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def encode(name, data, block=0):
    lines = tool('encode', os.path.join(FOLDER, name), '--block', str(block), data=data).decode().splitlines()
    return [[int(x) for x in line.split()] for line in lines]


def hash_of(ids):
    return hashlib.sha256(b''.join(i.to_bytes(4, 'little') for i in ids)).hexdigest()[:12]


class Tokenizers(programs.Scratch):
    def test_ids_of_the_references(self):
        data = b''.join(sample.blocks())
        self.assertEqual(hashlib.sha256(data).hexdigest(), GOLDEN['sample'])
        for name in NAMES:
            with self.subTest(name):
                want, got = GOLDEN['of'][name], encode(name, data, sample.BLOCK)
                self.assertEqual(sum(map(len, got)), want['n_ids'])
                self.assertEqual(''.join(hash_of(i)[:6] for i in got), want['blocks'])
                self.assertEqual(hash_of(encode(name, data)[0]), want['whole'])
                shown = json.loads(tool('show', os.path.join(FOLDER, name), '--json'))
                self.assertEqual(shown['vocab_size'], want['vocabulary'])
                for text, ids, back in want['texts']:
                    self.assertEqual(encode(name, text.encode()), [ids])
                    self.assertEqual(tool('decode', os.path.join(FOLDER, name), data=str(ids).encode()).decode(), back)

    def test_long_texts_come_in_pieces(self):
        clean = sample.text(5, 2600000, broken=False).decode('utf-8', 'ignore').replace('\0', '').encode()
        with open(self.path('long.txt'), 'wb') as f:
            f.write(clean)
        for name in NAMES:
            with self.subTest(name):
                run('muse-data', 'tokenize', self.path('long.txt'), '-o', self.path('set'), '-t', os.path.join(FOLDER, name))
                ids = array.array('H', open(self.path('set.bin'), 'rb').read()).tolist()
                self.assertEqual(hash_of(ids), hash_of(encode(name, clean)[0]))

    def test_sets_carry_their_tokenizer(self):
        os.makedirs(self.path('text'))
        text = 'Hello 世界 😀\n' * 400
        with open(self.path('text', 'a.txt'), 'w', encoding='utf-8') as f:
            f.write(text)
        source = self.path('copy', 'tokenizer.json')
        os.makedirs(self.path('copy'))
        with open(os.path.join(FOLDER, 'gpt2.json'), 'rb') as f, open(source, 'wb') as g:
            g.write(f.read())
        run('muse-data', 'tokenize', self.path('text'), '-o', self.path('set'), '-t', self.path('copy'), '-q')
        self.assertEqual(sorted(n for n in os.listdir(self.dir) if n.startswith('set')),
                         ['set.bin', 'set.idx', 'set.tokenizer.json'])
        os.remove(source)
        shown = json.loads(run('muse-data', 'inspect', self.path('set'), '--json', '--scan', '-d', '0',
                               '--max-tokens', '100000').stdout)
        self.assertEqual(shown['tokenizer'], 'copy')
        self.assertEqual(shown['samples'][0]['text'], text)
        self.assertEqual(sum(f['count'] for f in shown['frequent']), shown['tokens'])
        self.assertIn('most frequent tokens', run('muse-data', 'inspect', self.path('set'), '--scan').stdout)
        with open(os.path.join(FOLDER, 'qwen.json'), 'rb') as f, open(self.path('set.tokenizer.json'), 'wb') as g:
            g.write(f.read())
        self.assertIn('made by another tokenizer', run('muse-data', 'inspect', self.path('set'), status=5).stderr)
        os.remove(self.path('set.tokenizer.json'))
        run('muse-data', 'inspect', self.path('set'))  # ids

    def test_training_with_it_and_a_mismatch(self):
        gpt2, qwen = (os.path.join(FOLDER, n) for n in ('gpt2.json', 'qwen.json'))
        with open(self.path('a.txt'), 'w', encoding='utf-8') as f:
            f.write(sample.text(9, 60000, broken=False).decode('utf-8', 'ignore').replace('\0', ''))
        run('muse-data', 'tokenize', self.path('a.txt'), '-o', self.path('set'), '-t', gpt2, '-q')
        plan = self.plan(CONFIG.replace('TOKENIZER', gpt2))
        other = self.plan(CONFIG.replace('TOKENIZER', qwen), name='other.plan')
        run('muse-run', 'train', plan, '--data', self.path('set'), '-o', self.path('run'))
        text = run('muse-run', 'generate', plan, '-c', self.path('run'), '--prompt', 'the 猫', '-n', '20').stdout
        self.assertTrue(text.startswith('the 猫'))
        for command in (['train', other, '--data', self.path('set'), '-o', self.path('run2')],
                        ['eval', other, '--data', self.path('set'), '-c', self.path('run')]):
            self.assertIn("made by another tokenizer ('gpt2'", run('muse-run', *command, status=5).stderr)
        for command in (['generate', other, '-c', self.path('run'), '-n', '1'],
                        ['generate', plan, '-c', self.path('run'), '-n', '1', '--tokenizer', 'bytes']):
            self.assertIn('trained with another tokenizer', run('muse-run', *command, status=5).stderr)
        run('muse-data', 'tokenize', self.path('a.txt'), '-o', self.path('set2'), '-t', qwen, '-q')
        self.assertIn('trained with another tokenizer', run(
            'muse-run', 'train', other, '--data', self.path('set2'), '-o', self.path('run'), '--resume', status=5).stderr)
        small = self.plan(CONFIG.replace('TOKENIZER', gpt2), 'vocab_size=1200', 'eos_token_id=5', name='small.plan')
        self.assertIn("has 1301 ids, the model's vocab_size is 1200", run(
            'muse-run', 'train', small, '--data', self.path('set'), '-o', self.path('run3'), status=5).stderr)

    def test_refusals_name_what_is_refused(self):
        good = json.load(open(os.path.join(FOLDER, 'gpt2.json'), encoding='utf-8'))

        def refused(change, sentence):
            root = json.loads(json.dumps(good))
            change(root)
            with open(self.path('t.json'), 'w', encoding='utf-8') as f:
                json.dump(root, f)
            with self.subTest(sentence):
                self.assertIn(sentence, run('muse-data', 'tokenizer', 'show', self.path('t.json'), status=2).stderr)

        def split(pattern):
            return {'type': 'Sequence', 'pretokenizers': [
                {'type': 'Split', 'pattern': {'Regex': pattern}, 'behavior': 'Isolated', 'invert': False},
                {'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True, 'use_regex': False}]}

        refused(lambda r: r['model'].update(type='WordPiece'), "the model is 'WordPiece'")
        refused(lambda r: r['model'].update(type='Unigram'), 'use that')
        refused(lambda r: r['model'].update(dropout=0.1), "'dropout'")
        refused(lambda r: r['model'].update(novelty=1), "the key 'novelty'")
        refused(lambda r: r.update(truncation={'max_length': 8}), "'truncation'")
        refused(lambda r: r.update(normalizer={'type': 'Lowercase'}), "normalizer 'Lowercase'")
        refused(lambda r: r.update(pre_tokenizer={'type': 'Metaspace'}), "pre-tokenizer 'Metaspace'")
        refused(lambda r: r.update(pre_tokenizer=None), 'no ByteLevel')
        refused(lambda r: r.update(pre_tokenizer=split(r'\w+')), "has '\\w+'")
        refused(lambda r: r.update(pre_tokenizer=split(r'[\p{L}&&[^\p{Han}]]')), 'may mean something else')
        refused(lambda r: r.update(pre_tokenizer=split(r'a*')), 'matches the empty text')
        refused(lambda r: r.update(pre_tokenizer=split(r'(a')), 'is wrong at byte')
        refused(lambda r: r['added_tokens'][0].update(id=7), 'has the id 7')
        refused(lambda r: r['added_tokens'][0].update(single_word=True), 'single_word')
        refused(lambda r: (r['model']['vocab'].pop('a'), r.update(added_tokens=[])), 'no token for the byte 0x61')
        refused(lambda r: r['model']['merges'].append('a zzz'), 'is not in the vocabulary')
        refused(lambda r: r['model']['merges'].append('a'), 'is not a pair')
        with open(self.path('t.json'), 'w') as f:
            f.write('{"model": ')
        self.assertIn('is no JSON', run('muse-data', 'tokenizer', 'show', self.path('t.json'), status=2).stderr)
        os.makedirs(self.path('empty'))
        self.assertIn('holds no tokenizer.json', run('muse-data', 'tokenizer', 'show', self.path('empty'), status=2).stderr)

    def test_sentencepiece_training(self):
        if not WITH_SENTENCEPIECE:
            self.skipTest('built without libsentencepiece')
        os.makedirs(self.path('text'))
        for i in range(4):
            with open(self.path('text', f'{i}.txt'), 'w', encoding='utf-8') as f:
                f.write(sample.text(30 + i, 40000, broken=False).decode('utf-8', 'ignore').replace('\0', ''))
        models = []
        for sizes in ['64KiB'], ['64KiB'], ['1MiB']:
            run('muse-data', 'tokenizer', 'train', self.path('text'), '-o', self.path('new.model'), '--vocab-size', '1200',
                '--sample', *sizes, '--force')
            models.append(open(self.path('new.model'), 'rb').read())
        self.assertEqual(models[0], models[1])
        self.assertNotEqual(models[0], models[2])
        shown = json.loads(tool('show', self.path('new.model'), '--json'))
        self.assertEqual((shown['kind'], shown['vocab_size'], shown['eos']), ('SentencePiece BPE', 1200, 1))
        text = "def f(x):\n    return  '猫😀\u1234'\n\n"
        ids = tool('encode', self.path('new.model'), data=text.encode())
        self.assertEqual(tool('decode', self.path('new.model'), data=ids).decode(), text)
        run('muse-data', 'tokenizer', 'train', self.path('text'), '-o', self.path('a', 'b', 'new.model'), '--vocab-size', '1200',
            '--sample', '64KiB')  # folders are made, and one that cannot be made is told before the work
        self.assertEqual(open(self.path('a', 'b', 'new.model'), 'rb').read(), models[0])
        done = run('muse-data', 'tokenizer', 'train', self.path('text'), '-o', self.path('new.model', 'x.model'), status=None)
        self.assertNotIn('training on', done.stderr)
        self.assertIn('Not a directory', done.stderr)
        self.assertIn('there already', run('muse-data', 'tokenizer', 'train', self.path('text'), '-o', self.path('new.model'),
                                           status=2).stderr)
        damaged = bytearray(open(os.path.join(FOLDER, 'unigram.model'), 'rb').read())
        for cut in 1, 100, len(damaged) // 2:
            with open(self.path('cut.model'), 'wb') as f:
                f.write(damaged[:cut])
            run('muse-data', 'tokenizer', 'show', self.path('cut.model'), status=2)


if __name__ == '__main__':
    programs.main()
