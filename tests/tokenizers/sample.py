#!/usr/bin/env python3
"""The text that tokenizers are compared on: 1.2 MB of English, Japanese, code, emoji, odd Unicode and broken UTF-8, made
from the seed of a generator of our own, so that it is the same everywhere. Usage: sample.py > FILE"""
import sys

ENGLISH = '''the of and to in is that it was for on as with his they at be this from have or by one had not but what all were
when we there can an your which their said if do will each about how up out them then she many some so these would other into
has more her two like him see time could no make than first been its who now people my made over did down only way find use
water long little very after words called just where most know learning gradient tokenizer compiler don't it's we're I'll
they've I'm he'd O'Neill naïve café résumé coöperate San Francisco QUICK Brown foxes jumped-over lazy/dogs'''.split()
JAPANESE = '''吾輩は猫である。 名前はまだ無い。 どこで生れたか 頓と見当がつかぬ。 東京都 大阪市 機械学習 の モデル を 訓練する。 トークナイザー
カタカナ ひらがな 漢字 ﾊﾝｶｸ ｶﾞｷﾞｸﾞ １２３ ＡＢＣ 「括弧」 『二重』 、 。 ・ ー ～ 々 〆 こんにちは、世界！ ありがとうございます。 すもも も もも も もも の うち
これは長い一文で、区切りのない日本語の文章が正規表現でどのように扱われるかを確かめるためのものです。 髙﨑𠮷野家 か\u3099 は\u309a'''.split()
CODE = ['for (size_t i = 0; i < n; i++) {', '  return muse_error(diag, MUSE_ERR_INPUT, "%s", name);', '}', 'def f(x):',
        '    if x is None:', "        raise ValueError(f'{x!r}')", '\tprintf("\\n");', '#include <stdio.h>', '/* comment */',
        "const a = [1, 2.5, 0x1F, 1e-9];", '<div class="a">&nbsp;</div>', 'SELECT * FROM t WHERE id=42;', '$ ls -la | wc',
        'https://example.org/a?b=c&d=%20#e', '{"key": [null, true]}', 'x+=1;;y**2//3']
ODD = ['👍', '👨‍👩‍👧‍👦', '🏳️‍🌈', '🇯🇵', '😀😃😄', 'e\u0301', 'A\u030a', '\u1e9b\u0323', 'ﬁ', '①②③', '½', 'Ⅷ', '٣٤٥', 'हिन्दी', 'العربية', 'עברית',
       'Русский', 'Ελληνικά', '한국어', '中文', 'ไทย', '\u200b', '\u00a0', '\u2003', '\u3000', '\ufeff', '\ufffd', '\u180e', '\u0085',
       '\u2028', 'ſ', "'ſ", "'LL", "'Re", '„quotes“', '—', '…', '€100', '∀x∈ℝ', '\u0000', '\u0007', '\u007f', '\x1b[0m', '\ue000',
       '𝔘𝔫𝔦', 'Å', 'Ω', '각', '<|endoftext|>', '<|begin_of_text|>', '<|im_start|>user', '<mask>', '▁', 'Ġ', '<0x41>', '</s>',
       '<unk>', '<|endof', '\u0301', '豈', '\U0001F1E6', '\U000e0041', '🧑🏽‍💻']
BROKEN = [b'\xff', b'\xc3', b'\xe2\x82', b'\xf0\x9f\x91', b'\xed\xa0\x80', b'\xc0\xaf', b'\xf4\x90\x80\x80', b'\x80', b'\xe0\x80',
          b'\xf8\x88\x80\x80\x80', b'\xe3\x81', b'\xfe\xfe']
SPACES = [' ', ' ', ' ', ' ', ' ', ' ', ' ', '  ', '    ', '\n', '\n', '\n\n', '\r\n', '\t', ' \n ', '\n   \n', '\x0b', '', '', ', ', '. ']


class Numbers:
    """xorshift64*."""

    def __init__(self, seed):
        self.x = seed

    def below(self, n):
        self.x ^= self.x >> 12
        self.x = (self.x ^ self.x << 25) & (1 << 64) - 1
        self.x ^= self.x >> 27
        return (self.x * 0x2545F4914F6CDD1D >> 32 & 0xFFFFFFFF) % n

    def of(self, things):
        return things[self.below(len(things))]


def piece(r, broken):
    kind = r.below(100)
    if kind < 45:
        word = r.of(ENGLISH)
        return word.capitalize() if r.below(8) == 0 else word.upper() if r.below(30) == 0 else word
    if kind < 68:
        return ''.join(r.of(JAPANESE) for _ in range(1 + r.below(6)))
    if kind < 80:
        return r.of(CODE)
    if kind < 86:
        return str(r.below(10 ** (1 + r.below(9))))
    if kind < 94:
        return r.of(ODD)
    if kind < 95:
        return r.of(['a', ' ', '-', '=', 'あ', '\n', '0', '!?', 'ab'] + ODD[:4]) * (1 + r.below(90))
    if kind < 97:  # any character at all but those without agreed properties
        c = r.of([r.below(0x250), r.below(0x3000), 0x3000 + r.below(0x6f00), 0x1f300 + r.below(0x300)])
        return chr(c)
    if kind < 98 and broken:
        return r.of(BROKEN)
    return r.of(SPACES) * (1 + r.below(3))


def text(seed, size, broken=True):
    r = Numbers(seed)
    out = bytearray()
    while len(out) < size:
        p = piece(r, broken)
        out += p if isinstance(p, bytes) else p.encode()
        out += r.of(SPACES).encode()
    return bytes(out[:size])


SIZE, BLOCK, SEED = 1228800, 4096, 20240229


def blocks():
    """Blocks of 4096 bytes, cut anywhere, and one in sixteen whole megabyte-scale stretch is left to the caller."""
    whole = text(SEED, SIZE)
    return [whole[i:i + BLOCK] for i in range(0, SIZE, BLOCK)]


if __name__ == '__main__':
    sys.stdout.buffer.write(text(SEED, SIZE))
