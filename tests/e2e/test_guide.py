#!/usr/bin/env python3
"""Every command of the guides exists: make's verbs, the programs' commands and options, the files that are named."""
import os
import re
import shlex

import programs
from programs import run

DOCS = os.path.join(programs.SOURCE, 'docs')
MADE = re.compile(r'configs/my_|configs/dataset_mixing')


def commands(guide):
    """The indented lines that are commands, without their comments."""
    with open(os.path.join(DOCS, guide), encoding='utf-8') as f:
        for line in f:
            if re.match(r'    (make|build/)', line):
                yield shlex.split(line, comments=True)


class Guide(programs.Scratch):
    def setUp(self):
        super().setUp()
        with open(os.path.join(programs.SOURCE, 'Makefile'), encoding='utf-8') as f:
            self.makefile = f.read()

    def check_make(self, words):
        for word in words:
            name, equals, value = word.partition('=')
            if not equals:
                self.assertRegex(self.makefile, rf'(?m)^{re.escape(name)}:', f'make {name}')
                continue
            self.assertRegex(self.makefile, rf'(?m)^{name} \?=', f'the variable {name}')
            if name == 'ARGS':
                help_text = run('muse-run', 'train', '--help').stdout
                for option in re.findall(r'--[\w-]+', value):
                    self.assertIn(option, help_text)
            elif name.startswith('CONFIG') and not MADE.match(value):
                self.assertTrue(os.path.exists(os.path.join(programs.SOURCE, value)), value)

    def check_program(self, name, words):
        help_text = run(name, words[0], '--help').stdout
        for word in words[1:]:
            if word.startswith('--'):
                self.assertRegex(help_text, re.escape(word) + r'\b', f'{name} {words[0]}')
        for word in words[1:]:
            if word.startswith('configs/') and not MADE.match(word):
                self.assertTrue(os.path.exists(os.path.join(programs.SOURCE, word)), word)

    def check(self, guide):
        n = 0
        for words in commands(guide):
            with self.subTest(' '.join(words)):
                if words[0] == 'make':
                    self.check_make(words[1:])
                else:
                    self.check_program(os.path.basename(words[0]), words[1:])
            n += 1
        return n

    def test_english(self):
        self.assertGreater(self.check('guide.md'), 15)

    def test_japanese(self):
        self.assertGreater(self.check('guide.ja.md'), 15)

    def test_both_say_the_same(self):
        english, japanese = (list(commands(name)) for name in ('guide.md', 'guide.ja.md'))
        self.assertEqual([words[:3] for words in english], [words[:3] for words in japanese])

    def test_the_readme_leads_here(self):
        with open(os.path.join(programs.SOURCE, 'README.md'), encoding='utf-8') as f:
            text = f.read()
        self.assertIn('(docs/guide.md)', text)
        self.assertIn('(docs/guide.ja.md)', text)


if __name__ == '__main__':
    programs.main()
