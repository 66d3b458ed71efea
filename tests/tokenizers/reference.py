#!/usr/bin/env python3
"""Development only: makes the small tokenizers of this folder, and golden.json, with the reference implementations.
Needs `pip install tokenizers sentencepiece` in a virtual environment. Usage:
  reference.py make            trains the tokenizers anew (their golden file follows)
  reference.py golden          writes golden.json from the tokenizers that are there
  reference.py compare MUSE_DATA FILE|FOLDER [TEXT]   compares ids of any tokenizer on the sample or on a text of one's own
"""
import hashlib
import io
import json
import os
import subprocess
import sys

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import sample

HERE = os.path.dirname(os.path.abspath(__file__))
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace('{1,3}', '')
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEXTS = ['', ' ', 'Hello, world!', '吾輩は猫である。名前はまだ無い。', "  It's  2024-05-01\n\n\tx = 'y';\n", '👨‍👩‍👧‍👦 e\u0301 ﬁ ｶﾞ',
         'a<|endoftext|>b  <mask> c', 'x' * 100, ' ' * 70 + '\n' * 9]


def training_text():
    return [sample.text(seed, 3000, broken=False).decode('utf-8', 'ignore').replace('\0', '') for seed in range(1, 200)]


def byte_level(vocab, pre, normalizer=None, special=(), added=(), ignore_merges=False, merges_as_text=False):
    t = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    t.pre_tokenizer = pre
    t.decoder = decoders.ByteLevel()
    if normalizer:
        t.normalizer = normalizer
    t.train_from_iterator(training_text(), trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.add_tokens([AddedToken(a, normalized=n, lstrip=l, rstrip=r) for a, n, l, r in added])
    t.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in special])
    root = json.loads(t.to_str())
    if merges_as_text:
        root['model']['merges'] = [' '.join(m) for m in root['model']['merges']]
    return json.dumps(root, ensure_ascii=False, separators=(',', ':'))


def make():
    pt, sp = pre_tokenizers, sentencepiece.SentencePieceTrainer
    made = {
        'gpt2.json': byte_level(1300, pt.ByteLevel(add_prefix_space=False), special=['<|endoftext|>'], merges_as_text=True),
        'llama3.json': byte_level(2000, pt.Sequence([pt.Split(Regex(LLAMA3), 'isolated'),
                                                     pt.ByteLevel(add_prefix_space=False, use_regex=False)]),
                                  special=['<|begin_of_text|>', '<|end_of_text|>', '<|im_start|>'], ignore_merges=True),
        'qwen.json': byte_level(1500, pt.Sequence([pt.Split(Regex(QWEN), 'isolated'),
                                                   pt.ByteLevel(add_prefix_space=False, use_regex=False)]),
                                normalizers.NFC(), special=['<|endoftext|>', '<|im_start|>'],
                                added=[('Quick', True, False, False), ('<|endof', False, False, False)]),
        'mixed.json': byte_level(1200, pt.Sequence([pt.Digits(individual_digits=True), pt.Split(Regex(O200K), 'removed', True),
                                                    pt.ByteLevel(add_prefix_space=True)]),
                                 normalizers.Sequence([normalizers.NFKC()]), special=['</s>'],
                                 added=[('<mask>', False, True, True), ('learning', True, False, False)]),
    }
    for name, text in made.items():
        with open(os.path.join(HERE, name), 'w', encoding='utf-8') as f:
            f.write(text)
    for name, options in {
            'bpe.model': dict(model_type='bpe', vocab_size=1600, byte_fallback=True, normalization_rule_name='identity',
                              remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True),
            'unigram.model': dict(model_type='unigram', vocab_size=1300, byte_fallback=True, user_defined_symbols=['<mask>']),
            'unigram-unk.model': dict(model_type='unigram', vocab_size=1200, normalization_rule_name='identity',
                                      character_coverage=0.98)}.items():
        model = io.BytesIO()
        sp.train(sentence_iterator=(line for text in training_text() for line in text.split('\n') if line),
                 model_writer=model, num_threads=1, minloglevel=3, **options)
        with open(os.path.join(HERE, name), 'wb') as f:
            f.write(model.getvalue())


class Reference:
    def __init__(self, path):
        if os.path.isdir(path):
            path = os.path.join(path, 'tokenizer.json')
        self.model = None
        if path.endswith('.model'):
            self.model = sentencepiece.SentencePieceProcessor(model_file=path)
        else:
            self.json = Tokenizer.from_file(path)

    def encode(self, data):
        if self.model:
            return self.model.encode(data)  # bytes: the library itself reads broken UTF-8
        return self.json.encode(data.decode('utf-8', 'replace'), add_special_tokens=False).ids

    def decode(self, ids):
        return self.model.decode(ids) if self.model else self.json.decode(ids)

    def size(self):
        return self.model.vocab_size() if self.model else self.json.get_vocab_size()


def hash_of(ids):
    return hashlib.sha256(b''.join(i.to_bytes(4, 'little') for i in ids)).hexdigest()[:12]


def golden():
    out = {'tokenizers': tokenizers.__version__, 'sentencepiece': sentencepiece.__version__, 'sample': hashlib.sha256(
        b''.join(sample.blocks())).hexdigest(), 'of': {}}
    for name in sorted(n for n in os.listdir(HERE) if n.endswith('.model') or n.endswith('.json') and n != 'golden.json'):
        r = Reference(os.path.join(HERE, name))
        ids = [r.encode(b) for b in sample.blocks()]
        out['of'][name] = {
            'vocabulary': r.size(), 'n_ids': sum(map(len, ids)), 'blocks': ''.join(hash_of(i)[:6] for i in ids),
            'whole': hash_of(r.encode(b''.join(sample.blocks()))),
            'texts': [[text, r.encode(text.encode()), r.decode(r.encode(text.encode()))] for text in TEXTS]}
    with open(os.path.join(HERE, 'golden.json'), 'w', encoding='utf-8') as f:
        json.dump(out, f, ensure_ascii=False, separators=(',', ':'))
        f.write('\n')


def compare(muse_data, path, text=None):
    data = open(text, 'rb').read() if text else b''.join(sample.blocks())
    r, bad = Reference(path), 0
    for block in sample.BLOCK, len(data):
        lines = subprocess.run([muse_data, 'tokenizer', 'encode', path, '--block', str(block)], input=data, check=True,
                               capture_output=True).stdout.decode().splitlines()
        for i, line in enumerate(lines):
            piece = data[i * block:(i + 1) * block]
            ours, theirs = [int(x) for x in line.split()], r.encode(piece)
            if ours != theirs:
                bad += 1
                at = next((k for k, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
                if bad <= 5:
                    print(f'block {i} of {block}: id {at}: {ours[at:at + 6]} here, {theirs[at:at + 6]} there, after '
                          f'{r.decode(theirs[max(0, at - 5):at])!r}: {r.decode(ours[at:at + 6])!r} {r.decode(theirs[at:at + 6])!r}')
    print(f'{path}: {"equal" if not bad else f"{bad} differences"} on {len(data)} bytes')
    return bad


if __name__ == '__main__':
    if sys.argv[1] == 'make':
        make()
    if sys.argv[1] in ('make', 'golden'):
        golden()
    if sys.argv[1] == 'compare':
        sys.exit(1 if compare(*sys.argv[2:]) else 0)
