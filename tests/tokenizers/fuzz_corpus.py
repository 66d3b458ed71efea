#!/usr/bin/env python3
"""Development only: writes the small stored corpora of tests/fuzz for tokenizers (see reference.py for what it needs)."""
import io
import json
import os

import sentencepiece
from tokenizers import pre_tokenizers

FUZZ = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fuzz', 'corpus')


def tokenizer_json(pre, normalizer=None, merges=('h e', 'l l', 'he ll', 'a a', 'aa aa'), **model):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + [''.join(m) if isinstance(m, list) else m.replace(' ', '') for m in merges]
    return {'version': '1.0', 'truncation': None, 'padding': None,
            'added_tokens': [{'id': len(tokens), 'content': '<|endoftext|>', 'single_word': False, 'lstrip': True,
                              'rstrip': False, 'normalized': False, 'special': True},
                             {'id': len(tokens) + 1, 'content': 'world', 'single_word': False, 'lstrip': False,
                              'rstrip': True, 'normalized': True, 'special': False}],
            'normalizer': normalizer, 'pre_tokenizer': pre, 'post_processor': None, 'decoder': {'type': 'ByteLevel'},
            'model': {'type': 'BPE', 'dropout': None, 'unk_token': None, 'vocab': {t: i for i, t in enumerate(tokens)},
                      'merges': list(merges), **model}}


LEVEL = {'type': 'ByteLevel', 'add_prefix_space': True, 'trim_offsets': True, 'use_regex': True}
SPLIT = {'type': 'Sequence', 'pretokenizers': [
    {'type': 'Split', 'pattern': {'Regex': r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"},
     'behavior': 'Removed', 'invert': True}, {'type': 'Digits', 'individual_digits': True},
    {'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True, 'use_regex': False}]}
JSON = {'plain': tokenizer_json(LEVEL), 'sequence': tokenizer_json(SPLIT, {'type': 'NFC'}, ignore_merges=True),
        'pairs': tokenizer_json(LEVEL, {'type': 'Sequence', 'normalizers': [{'type': 'NFKC'}, {'type': 'NFD'}]},
                                merges=[['h', 'e'], ['l', 'l'], ['he', 'll']])}
for name, root in JSON.items():
    with open(os.path.join(FUZZ, 'tokenizer_json', name), 'w', encoding='utf-8') as f:
        json.dump(root, f, ensure_ascii=False, separators=(',', ':'))
LINES = ['hello world', 'aaa aa a', 'it is 12 o clock', '猫 は 世界']
for name, options in {'bpe': dict(model_type='bpe', vocab_size=300, byte_fallback=True, normalization_rule_name='identity'),
                      'unigram': dict(model_type='unigram', vocab_size=36, normalization_rule_name='identity'),
                      'table': dict(model_type='bpe', vocab_size=40, normalization_rule_tsv='/tmp/muse-rule.tsv')}.items():
    with open('/tmp/muse-rule.tsv', 'w', encoding='utf-8') as f:
        f.write('41\t61\nFF21\t61\n30AB 3099\t30AC\n')
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(LINES * 5), model_writer=model, minloglevel=3,
                                             hard_vocab_limit=False, **options)
    with open(os.path.join(FUZZ, 'tokenizer_model', name), 'wb') as f:
        f.write(model.getvalue())
