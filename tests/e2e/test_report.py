#!/usr/bin/env python3
"""The page of a run: what it holds, hostile and damaged runs, and a real browser where there is one."""
import html.parser
import json
import os
import random
import shutil
import subprocess
import tempfile
import unittest

import programs
from programs import run

CONFIG = programs.SMALL_HYBRID + '''use_lap: true
use_mourre: true
batch_size: 8
max_steps: 40
warmup_steps: 5
learning_rate: 6e-3
save_interval: 0
eval_interval: 10
eval_batches: 1
sample_interval: 20
sample_tokens: 12
sample_prompt: "a <b> & c "
log_interval: 5
'''
CHROMIUM = next((path for path in map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome')) if path), None)
VOID = {'meta', 'link', 'br'}
EVIL = '</pre><script>alert(1)</script><img src=x onerror=alert(2)> "\' \x1b[31m \u202e & é 日本語'


class Page(html.parser.HTMLParser):
    """Tags that close in order; what can run or load; headings; text."""

    def __init__(self, path):
        super().__init__()
        self.stack, self.tags, self.headings, self.text, self.addresses = [], [], [], '', []
        with open(path, encoding='utf-8') as f:  # strict
            self.source = f.read()
        self.feed(self.source)
        self.close()
        assert not self.stack, self.stack

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not any(name.startswith('on') for name, _ in attrs), attrs
        self.addresses += [value for name, value in attrs if name in ('src', 'href', 'data', 'action', 'xlink:href')]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack and self.stack[-1] == tag, (tag, self.stack)
        self.stack.pop()

    def handle_data(self, data):
        self.text += data
        if self.stack and self.stack[-1] == 'h2':
            self.headings.append(data)


class Report(programs.Scratch):
    def report(self, folder):
        path = run('muse-run', 'report', folder).stdout.strip()
        self.assertEqual(path, os.path.join(folder, 'report.html'))
        page = Page(path)
        self.assertEqual(set(page.tags) & {'script', 'img', 'iframe', 'object', 'embed', 'form', 'base'}, set())
        self.assertEqual(page.addresses, ['data:,'])  # the icon: nothing is loaded
        self.assertNotIn('http://', page.source.replace(EVIL, ''))
        self.assertNotIn('nan', page.source.lower().split('</style>')[1].replace('nance', ''))
        return page

    def history(self, lines, name='run'):
        os.makedirs(self.path(name), exist_ok=True)
        with open(self.path(name, 'metrics.jsonl'), 'wb') as f:
            f.write(b''.join(line if isinstance(line, bytes) else json.dumps(line).encode() + b'\n' for line in lines))
        return self.path(name)

    def trained(self):
        os.mkdir(self.path('texts'))
        draw = random.Random(3)
        for name in ('a', 'b'):
            with open(self.path('texts', name + '.txt'), 'w', encoding='utf-8') as f:
                f.write(' '.join(draw.choice(['green', 'the', 'of', 'seed']) for _ in range(9000)))
            run('muse-data', 'tokenize', self.path('texts', name + '.txt'), '-o', self.path(name), '-q')
        with open(self.path('mix.yaml'), 'w', encoding='utf-8') as f:
            f.write(f'datasets:\n  a<1>:\n    path: {self.path("a")}\n    weight: 3\n'
                    f'  b:\n    path: {self.path("b")}\n    weight: 1\n')
        run('muse-run', 'train', self.plan(CONFIG), '--data', self.path('mix.yaml'), '-o', self.path('run'), '-q')
        return self.path('run')

    def test_a_run(self):
        page = self.report(self.trained())
        for heading in ('Loss', 'Gradient norm', 'Learning rate', 'Tokens a second', 'Shares of the mixture',
                        'Trits that are 0', 'BK heads: max |g|', 'BK heads: min η', 'BK heads: mean κ',
                        'Memory of the process', 'Data', 'Layers', 'Samples', 'Kernels', 'Configuration'):
            self.assertIn(heading, page.headings)
        self.assertEqual(page.tags.count('svg'), 10)
        self.assertIn('All 40 steps are done.', page.text)
        self.assertIn('a<1> 75 %', page.text)
        self.assertIn('a <b> & c ', page.text)
        self.assertEqual(page.tags.count('details'), 3)
        self.assertIn('sample_prompt: "a <b> & c "', page.text)
        self.assertIn('prefers-color-scheme:dark', page.source)
        browser_loads(self, self.path('run', 'report.html'))

    def test_hostile_names_and_texts(self):
        folder = self.history([
            {'step': 0, 'kind': 'start', 'device': EVIL, 'config': EVIL, 'plan': EVIL, 'version': EVIL},
            {'step': 1, 'kind': 'train', 'loss': 5.0, 'smoothed_loss': 5.0, 'lap.max_g.99999999': 1, 'lap.max_g.-1': 1},
            {'step': 1, 'kind': 'mixture', 'share.' + EVIL: 0.5, 'share.b': 0.5},
            {'step': 1, 'kind': 'sample', 'prompt': EVIL, 'text': EVIL},
            {'step': 2, 'kind': 'bad', 'loss': 'nan', 'reason': EVIL},
            {'step': 2, 'kind': 'advice', 'text': EVIL},
            {'step': 2, 'kind': 'kernel', 'function': EVIL, 'kernel': EVIL, 'calls': 1, 'seconds': 1e-3},
            *({'step': 2, 'kind': 'mixture', f'share.set{i}': 0.5} for i in range(100)),
        ], 'run<script>')
        page = self.report(folder)
        for words in ('<script>alert(1)</script>', '日本語', '\\x1B', '1 step was left out', 'Advice of the run'):
            self.assertIn(words, page.text)
        browser_loads(self, os.path.join(folder, 'report.html'))

    def test_unfinished_damaged_and_odd(self):
        train = [{'step': i, 'kind': 'train', 'loss': 5 / i, 'grad_norm': 1e-3 * i, 'learning_rate': 1e-3}
                 for i in range(1, 50)]
        page = self.report(self.history([{'step': 0, 'kind': 'start', 'last_step': 100}, *train,
                                         b'{"step":50,"kind":"train","lo']))
        self.assertIn('Step 49 of 100', page.text)
        self.assertIn('1 of 51 lines', page.text)
        page = self.report(self.history([]))
        self.assertIn('No step is done yet.', page.text)
        odd = [b'\x00\xff\n', b'[]\n', b'1\n', b'\n', {'step': 'x', 'kind': 'train'}, {'step': -1, 'kind': 'train'},
               {'step': 1e300, 'kind': 'train'}, {'step': 3}, {'step': 3, 'kind': 7}, b'[' * 100000 + b'\n',
               {'step': 3, 'kind': 'train', 'loss': 1e308, 'smoothed_loss': -1e308, 'grad_norm': 1e-320},
               {'step': 1, 'kind': 'train', 'loss': 'inf', 'smoothed_loss': None, 'grad_norm': [], 'tokens': -1},
               {'step': 2, 'kind': 'trits', 'trits.0': [0, 0, 0], 'trits.1': [1, 2], 'trits.2': [-1, 2, 3]},
               {'step': 2, 'kind': 'kernel'}, {'step': 2, 'kind': 'sample'}, {'step': 2, 'kind': 'start', 'device': 3}]
        page = self.report(self.history(odd))
        self.assertIn('10 of 16 lines', page.text)
        whole = b''.join(json.dumps(line).encode() + b'\n' for line in train[:3])
        for cut in range(len(whole)):
            self.report(self.history([whole[:cut]]))

    def test_large_numbers_of_steps_make_no_large_page(self):
        draw = random.Random(1)
        folder = self.history({'step': i, 'kind': 'train', 'loss': 3 + draw.random(), 'grad_norm': draw.random()}
                              for i in range(1, 30001))
        self.report(folder)
        self.assertLess(os.path.getsize(os.path.join(folder, 'report.html')), 200000)

    def test_wrong_inputs(self):
        for args, words in ((['/nowhere'], "cannot read '/nowhere/metrics.jsonl'"), ([], 'name one run'),
                            (['a', 'b'], 'name one run')):
            self.assertIn(words, run('muse-run', 'report', *args, status=2).stderr)
        folder = self.history([])
        self.assertIn('/nowhere/x.html', run('muse-run', 'report', folder, '-o', '/nowhere/x.html', status=None).stderr)
        self.assertEqual(run('muse-run', 'report', folder, '-o', '/dev/stdout').stdout[:15], '<!doctype html>')


def console(path, *flags):
    """What a browser writes to its console while it loads a page, and the page as it then stands."""
    with tempfile.TemporaryDirectory(prefix='muse-browser-') as profile:
        done = subprocess.run([CHROMIUM, '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
                               f'--user-data-dir={profile}', '--enable-logging=stderr', '--virtual-time-budget=1000',
                               '--dump-dom', *flags, 'file://' + path], capture_output=True, text=True, timeout=120,
                              check=False)
    return [line for line in done.stderr.splitlines() if 'CONSOLE' in line], done.stdout


def browser_loads(test, path):
    if not CHROMIUM:
        return  # test_browser_is_there names it
    for flags in ([], ['--blink-settings=preferredColorScheme=0']):
        said, dom = console(path, *flags)
        test.assertEqual(said, [])
        test.assertIn('</main>', dom)


class Browser(programs.Scratch):
    @unittest.skipUnless(CHROMIUM, 'no Chromium here: pages are not loaded in a browser')
    def test_browser_is_there(self):
        """The check of the console would see something."""
        with open(self.path('bad.html'), 'w', encoding='utf-8') as f:
            f.write('<!doctype html><title>x</title><script>nonsense()</script>')
        said, _ = console(self.path('bad.html'))
        self.assertTrue(any('nonsense' in line for line in said), said)


if __name__ == '__main__':
    programs.main()
