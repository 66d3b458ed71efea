#!/usr/bin/env python3
"""muse-data fetch against servers on this machine that play the hub: formats, cuts, corruption, redirects, quotas, disks."""
import gzip
import hashlib
import json
import os
import resource
import signal
import subprocess
import time

import hub_server
import programs
from programs import SOURCE, program, run

PARQUET = os.path.join(SOURCE, 'tests', 'fuzz', 'corpus', 'parquet')
YAML = '''datasets:
  rows: {hub: owner/rows, config: en, text: text}
  pairs: {hub: owner/pairs, template: "{question}[\\n({hint})]\\n{answer}"}
  files: {hub: owner/files, files: "data/*.parquet", text: text}
  converted: {hub: owner/converted, config: en, template: "{title}: {text}"}
  lines: {hub: owner/lines, files: "web/part-*.json.gz", text: text}
  plain: {hub: owner/plain, files: "a.jsonl", text: body}
  zst: {hub: owner/zst, files: "a.jsonl.zst", text: text}
  articles: {hub: owner/articles, files: "*.jsonl", text: text, starts: " = ", starts_not: " = = "}
  gone: {hub: owner/gone, text: text}
'''


def parquet(name):
    with open(os.path.join(PARQUET, name + '.parquet'), 'rb') as f:
        return f.read()


def text_of(i):  # as tests/fuzz/make_parquet.py makes them
    return None if i % 7 == 6 else f'Document {i}: ' + '日本語 text. ' * (i % 5)


TEXTS = [text_of(i) for i in range(40) if text_of(i)]


class Fetch(programs.Scratch):
    def setUp(self):
        super().setUp()
        self.hub = hub_server.Hub()
        self.addCleanup(self.hub.close)
        with open(self.path('sets.yaml'), 'w', encoding='utf-8') as f:
            f.write(YAML)
        drop = ('HF_TOKEN', 'HF_TOKEN_PATH', 'HF_HUB_OFFLINE', 'HF_HUB_CACHE', 'http_proxy', 'https_proxy', 'HTTPS_PROXY', 'all_proxy',
                'ALL_PROXY')
        self.env = {k: v for k, v in os.environ.items() if k not in drop}
        self.env.update(HF_HOME=self.path('home'), HF_ENDPOINT=self.hub.url('hub'), NO_PROXY='*')
        self.out = self.path('data')

    def arguments(self, *args):
        return ('fetch', *args, '--datasets', self.path('sets.yaml'), '--viewer', self.hub.url('viewer'), '-o', self.out,
                '--retry-wait', '0.02', '-q')

    def fetch(self, *args, status=0, **env):
        return run('muse-data', *self.arguments(*args), status=status, env={**self.env, **env}, timeout=120)

    def refused(self, *args, says, status, **env):
        return self.one_error(self.fetch(*args, status=status, **env), says)

    def texts(self, name):
        folder, texts = os.path.join(self.out, 'text', name), []
        for file in sorted(os.listdir(folder)):
            self.assertTrue(file.endswith('.jsonl') or file == '.fetch.json', f'{file} is left over')
            if file.endswith('.jsonl'):
                with open(os.path.join(folder, file), encoding='utf-8') as f:
                    texts += [json.loads(line)['text'] for line in f]
        return texts

    def left_over(self):
        """Files under the cache and the output that are neither results nor parts that a later run goes on from."""
        found = []
        for top in self.out, self.path('home'):
            for folder, _, files in os.walk(top):
                found += [f for f in files if f.endswith(('.tmp', '.lock')) or '.tmp' in f]
        return found

    # ---- what comes

    def test_rows_of_the_viewer(self):
        rows = [({'text': f'row {i} 日本'}, []) for i in range(250)]
        rows[3] = ({'text': ''}, [])
        rows[5] = ({'text': 'the beginning of'}, ['text'])
        rows[7] = ({'text': None}, [])
        self.hub.rows[('owner/rows', 'en', 'train')] = rows
        result = json.loads(self.fetch('rows', '--max-samples', '230', '--json').stdout)
        want = [r[0]['text'] for i, r in enumerate(rows) if i not in (3, 5, 7)][:230]
        self.assertEqual(self.texts('rows'), want)
        self.assertEqual((result['documents'], result['commit'], result['left_out']), (230, hub_server.COMMIT, 3))
        self.assertEqual(len(self.hub.requests('viewer')), 3)
        self.fetch('rows', '--max-samples', '230')  # nothing more to ask
        self.assertEqual(len(self.hub.requests('viewer')), 3)
        self.refused('rows', '--max-samples', '10', says='holds another choice', status=2)
        self.fetch('rows', '--max-samples', '10', '--force')
        self.assertEqual(self.texts('rows'), want[:10])
        tokens = self.fetch('rows', '--max-samples', '10', '--tokenize', 'bytes').stdout
        self.assertIn('10 documents', tokens)
        shown = run('muse-data', 'inspect', os.path.join(self.out, 'rows'), '--document', '0').stdout
        self.assertIn('row 0 日本', shown)

    def test_templates(self):
        self.hub.rows[('owner/pairs', 'default', 'train')] = [
            ({'question': 'Why?', 'hint': 'think', 'answer': 'So.'}, []), ({'question': 'Who?', 'hint': '', 'answer': 'I.'}, [])]
        self.fetch('pairs', '--max-samples', '9')
        self.assertEqual(self.texts('pairs'), ['Why?\n(think)\nSo.', 'Who?\nI.'])

    def test_parquet_files(self):
        names = ['snappy', 'gzip', 'zstd', 'plain', 'v2-snappy', 'v2-zstd-plain', 'groups', 'checksum', 'delta-length']
        for name in names:
            self.hub.add_file('owner/files', f'data/{name}.parquet', parquet(name))
        self.hub.add_file('owner/files', 'data/sub/no.parquet', b'x')
        self.hub.add_file('owner/files', 'README.md', b'x')
        result = json.loads(self.fetch('files', '--json').stdout)
        self.assertEqual(self.texts('files'), TEXTS * len(names))
        self.assertEqual((result['documents'], result['left_out']), (len(TEXTS) * len(names), 5 * len(names)))
        # The cache is laid out as the hub's own tools lay it out, and serves without the hub.
        root = self.path('home', 'hub', 'datasets--owner--files')
        link = os.path.join(root, 'snapshots', hub_server.COMMIT, 'data', 'gzip.parquet')
        self.assertEqual(os.readlink(link), '../../../blobs/' + hashlib.sha256(parquet('gzip')).hexdigest())
        with open(os.path.join(root, 'refs', 'main'), encoding='utf-8') as f:
            self.assertEqual(f.read(), hub_server.COMMIT)
        n = len(self.hub.log)
        self.fetch('files', '--force', HF_HUB_OFFLINE='1')
        self.assertEqual((self.texts('files'), len(self.hub.log)), (TEXTS * len(names), n))
        self.fetch('files', '--force', '--max-samples', '50', '--via', 'files')
        self.assertEqual(self.texts('files'), (TEXTS * 2)[:50])
        self.assertEqual(self.left_over(), [])

    def test_the_conversion(self):
        self.hub.add_file('owner/converted', 'en/train/0000.parquet', parquet('snappy'), revision='refs/convert/parquet')
        self.hub.add_file('owner/converted', 'en/test/0000.parquet', parquet('zstd'), revision='refs/convert/parquet')
        self.fetch('converted', '--discard')
        self.assertEqual(self.texts('converted'), [f'Title {i % 3}: {text_of(i) or ""}' for i in range(40)])
        self.assertEqual(os.listdir(self.path('home', 'hub', 'datasets--owner--converted', 'blobs')), [])

    def test_json_lines(self):
        lines = [json.dumps({'text': f'page {i}\n\u3042 \U0001f333', 'url': 'x'}) for i in range(100)]
        lines[10], lines[20] = 'no JSON', json.dumps({'text': None})
        for part in range(2):
            content = gzip.compress(('\n'.join(lines[part * 50:part * 50 + 50]) + '\n').encode())
            self.hub.add_file('owner/lines', f'web/part-{part}.json.gz', content, lfs=part == 0)
        self.fetch('lines')
        self.assertEqual(self.texts('lines'), [f'page {i}\n\u3042 \U0001f333' for i in range(100) if i not in (10, 20)])
        self.hub.add_file('owner/plain', 'a.jsonl', b'{"body": "one"}\r\n\r\n{"body": "two"}')
        self.fetch('plain')
        self.assertEqual(self.texts('plain'), ['one', 'two'])
        # zstd, by hand: a frame of one raw block, as RFC 8878 writes it.
        raw = b'{"text": "packed"}\n'
        frame = b'\x28\xb5\x2f\xfd\x20' + bytes([len(raw)]) + (len(raw) << 3 | 1).to_bytes(3, 'little') + raw
        self.hub.add_file('owner/zst', 'a.jsonl.zst', frame)
        self.fetch('zst')
        self.assertEqual(self.texts('zst'), ['packed'])
        self.hub.add_file('owner/zst', 'a.jsonl.zst', frame[:-3])
        self.refused('zst', '--force', says='is damaged', status=1)

    def test_lines_that_are_joined(self):
        rows = ['', ' = One = \n', '', ' Text. \n', ' = = Part = = \n', ' More. \n', ' = Two = \n', ' End. \n']
        self.hub.add_file('owner/articles', 'a.jsonl', '\n'.join(json.dumps({'text': r}) for r in rows).encode())
        self.fetch('articles')
        self.assertEqual(self.texts('articles'), ['\n', ' = One = \n\n Text. \n = = Part = = \n More. \n', ' = Two = \n End. \n'])

    # ---- what goes wrong on the way

    def big(self, n=400000):
        line = json.dumps({'text': 'x' * 80 + ' 日本語'}) + '\n'
        return (line * (n // len(line) + 1)).encode()

    def test_a_cut_is_resumed(self):
        content, cuts = self.big(), [100000, 150000]
        self.hub.add_file('owner/plain', 'a.jsonl', content.replace(b'"text"', b'"body"'))

        def fault(handler, server, path):
            if server != 'storage' or not cuts:
                return False
            handler.send_range(content.replace(b'"text"', b'"body"'), cut=cuts.pop(0))
            return True
        self.hub.faults.append(fault)
        self.fetch('plain')
        asked = [h.get('range') for _, h in self.hub.requests('storage')]
        self.assertEqual(asked, [None, 'bytes=100000-', 'bytes=250000-'])
        self.assertTrue(self.hub.requests('storage')[1][1]['if-range'].startswith('"'))
        self.assertEqual(len(self.texts('plain')), content.count(b'\n'))

    def test_another_run_goes_on(self):
        content = self.big().replace(b'"text"', b'"body"')
        self.hub.add_file('owner/plain', 'a.jsonl', content)

        def fault(handler, server, path):
            if server != 'storage':
                return False
            if len(self.hub.requests('storage')) == 1:
                handler.send_range(content, cut=123456)
            else:
                handler.answer(503, b'')
            return True
        self.hub.faults.append(fault)
        self.refused('plain', says='answers 503', status=1)
        blobs = self.path('home', 'hub', 'datasets--owner--plain', 'blobs')
        part = [f for f in os.listdir(blobs) if f.endswith('.incomplete')]
        self.assertEqual([os.path.getsize(os.path.join(blobs, f)) for f in part], [123456])
        self.assertEqual(self.texts('plain'), [])
        del self.hub.faults[:], self.hub.log[:]
        self.fetch('plain')
        (_, headers), = self.hub.requests('storage')
        self.assertEqual(headers['range'], 'bytes=123456-')
        self.assertIn('if-range', headers)
        self.assertEqual(self.hub.requests('hub', '/revision/'), [])  # the commit is pinned
        self.assertEqual(len(os.listdir(blobs)), 1)

    def test_a_changed_file_starts_afresh(self):
        """If-Range: what is there is of another file, and the server sends all of the new one."""
        content = self.big().replace(b'"text"', b'"body"')
        self.hub.add_file('owner/plain', 'a.jsonl', content)
        blobs = self.path('home', 'hub', 'datasets--owner--plain', 'blobs')
        os.makedirs(blobs)
        part = os.path.join(blobs, hashlib.sha256(content).hexdigest() + '.incomplete')
        with open(part, 'wb') as f:
            f.write(b'#' * 5000)
        with open(part + '.etag', 'w', encoding='utf-8') as f:
            f.write('"other"')
        self.fetch('plain')
        self.assertEqual(len(self.texts('plain')), content.count(b'\n'))
        self.assertEqual(len(self.hub.requests('storage')), 1)

    def test_corruption_of_the_same_size_is_refused(self):
        content = self.big().replace(b'"text"', b'"body"')
        wrong = bytearray(content)
        wrong[200000] ^= 1
        self.hub.add_file('owner/plain', 'a.jsonl', content)
        times = []

        def fault(handler, server, path):
            if server != 'storage':
                return False
            times.append(1)
            handler.send_range(bytes(wrong))
            return True
        self.hub.faults.append(fault)
        self.refused('plain', says='another SHA-256', status=5)
        self.assertEqual(len(times), 2)
        self.assertEqual(os.listdir(self.path('home', 'hub', 'datasets--owner--plain', 'blobs')), [])
        self.assertEqual(self.texts('plain'), [])
        del self.hub.faults[:]
        self.fetch('plain')
        self.assertEqual(len(self.texts('plain')), content.count(b'\n'))

    def test_the_token_stays_at_home(self):
        self.hub.private = 'hf_secret'
        self.hub.add_file('owner/files', 'data/a.parquet', parquet('zstd'))
        self.hub.rows[('owner/rows', 'en', 'train')] = [({'text': 'one'}, [])]
        self.refused('files', says='HF_TOKEN', status=1)
        self.fetch('files', HF_TOKEN='hf_secret')
        self.fetch('rows', '--max-samples', '1', HF_TOKEN='hf_secret')
        for server in 'hub', 'viewer':
            self.assertEqual({h.get('authorization') for _, h in self.hub.requests(server)} - {None}, {'Bearer hf_secret'})
        self.assertGreater(len(self.hub.requests('storage')), 0)
        for _, headers in self.hub.requests('storage'):
            self.assertNotIn('hf_secret', json.dumps(headers))
        # The file that the hub's login writes.
        with open(self.path('home', 'token'), 'w', encoding='utf-8') as f:
            f.write('hf_secret\n')
        self.fetch('files', '--force')
        # HF_ENDPOINT without TLS to another machine than this one gets no token; nobody listens at this one.
        del self.hub.log[:]
        done = self.fetch('files', '--force', status=1, HF_ENDPOINT='http://muse.invalid')
        self.assertIn('muse.invalid', done.stderr)

    def test_a_page_of_another_host_is_not_followed(self):
        self.hub.add_file('owner/files', 'data/a.parquet', parquet('zstd'))

        def fault(handler, server, path):
            if '/tree/' not in path or server != 'hub':
                return False
            handler.answer(200, [], [('Link', f'<{self.hub.url("storage")}/tree/x>; rel="next"')])
            return True
        self.hub.faults.append(fault)
        self.refused('files', says='has no files', status=2, HF_TOKEN='hf_secret')
        self.assertEqual(self.hub.requests('storage'), [])

    def test_waiting_when_told_to(self):
        self.hub.rows[('owner/rows', 'en', 'train')] = [({'text': f'row {i}'}, []) for i in range(150)]
        answers = [(429, [('Retry-After', '1')]), (503, []), (429, [('RateLimit', '"api";r=0;t=1')])]
        times = []

        def fault(handler, server, path):
            times.append(time.monotonic())
            if not answers:
                return False
            code, headers = answers.pop(0)
            handler.answer(code, b'', headers)
            return True
        self.hub.faults.append(fault)
        self.fetch('rows', '--max-samples', '150')
        self.assertEqual(len(self.texts('rows')), 150)
        self.assertEqual(len(times), 5)
        self.assertGreaterEqual(times[1] - times[0], 0.99)
        self.assertLess(times[2] - times[1], 0.9)
        self.assertGreaterEqual(times[3] - times[2], 0.99)

    def test_a_used_up_quota_is_waited_for(self):
        self.hub.rows[('owner/rows', 'en', 'train')] = [({'text': f'row {i}'}, []) for i in range(150)]
        times = []

        def fault(handler, server, path):
            times.append(time.monotonic())
            if len(times) > 1:
                return False
            rows = [{'row_idx': i, 'row': {'text': f'row {i}'}, 'truncated_cells': []} for i in range(100)]
            handler.answer(200, {'rows': rows}, [('RateLimit', '"api";r=0;t=1'), ('X-Revision', hub_server.COMMIT)])
            return True
        self.hub.faults.append(fault)
        self.fetch('rows', '--max-samples', '150')
        self.assertGreaterEqual(times[1] - times[0], 0.99)

    def test_a_wait_that_is_too_long(self):
        self.hub.faults.append(lambda handler, server, path: handler.answer(429, b'', [('Retry-After', '86400')]) or True)
        self.refused('rows', '--max-samples', '1', says='come back in 86400 s', status=1)

    def test_a_set_that_changes_between_pages(self):
        self.hub.rows[('owner/rows', 'en', 'train')] = [({'text': f'row {i}'}, []) for i in range(150)]

        def fault(handler, server, path):
            if 'offset=100' not in path:
                return False
            handler.answer(200, {'rows': []}, [('X-Revision', 'f' * 40)])
            return True
        self.hub.faults.append(fault)
        self.refused('rows', '--max-samples', '150', says='changed on the hub between two pages', status=1)

    def test_a_full_disk(self):
        content = self.big(3 << 20).replace(b'"text"', b'"body"')
        self.hub.add_file('owner/plain', 'a.jsonl', content)

        def limited(n):
            return subprocess.run([program('muse-data'), *self.arguments('plain')], env=self.env, capture_output=True, text=True,
                                  timeout=60, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (n, n)))
        done = limited(1 << 20)  # the download does not fit
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn('File too large; what has come is kept', done.stderr)
        blobs = self.path('home', 'hub', 'datasets--owner--plain', 'blobs')
        self.assertEqual({os.path.getsize(os.path.join(blobs, f)) for f in os.listdir(blobs) if f.endswith('.incomplete')}, {1 << 20})
        self.assertEqual((self.texts('plain'), self.left_over()), ([], []))
        self.fetch('plain')
        self.assertEqual(self.hub.requests('storage')[-1][1]['range'], f'bytes={1 << 20}-')
        self.assertEqual(len(self.texts('plain')), content.count(b'\n'))
        # The shard does not fit, while the file in the cache does.
        files = self.path('data', 'text', 'plain')
        before = self.texts('plain')
        done = subprocess.run([program('muse-data'), *self.arguments('plain', '--force')], env=self.env, capture_output=True,
                              text=True, timeout=60, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)))
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn('cannot write', done.stderr)
        self.assertEqual([f for f in os.listdir(files) if f != '.fetch.json'], [])
        self.fetch('plain')
        self.assertEqual(self.texts('plain'), before)

    def test_a_signal(self):
        content = self.big(3 << 20).replace(b'"text"', b'"body"')
        self.hub.add_file('owner/plain', 'a.jsonl', content)

        def fault(handler, server, path):
            if server != 'storage':
                return False
            handler.send_response(200)
            handler.send_header('Content-Length', str(len(content)))
            handler.end_headers()
            handler.wfile.write(content[:1 << 20])
            time.sleep(20)
            return True
        self.hub.faults.append(fault)
        child = subprocess.Popen([program('muse-data'), *self.arguments('plain')], env=self.env, stderr=subprocess.PIPE, text=True)
        blobs = self.path('home', 'hub', 'datasets--owner--plain', 'blobs')
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not (os.path.isdir(blobs) and any(
                os.path.getsize(os.path.join(blobs, f)) == 1 << 20 for f in os.listdir(blobs))):
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        _, message = child.communicate(timeout=30)
        self.assertEqual(child.returncode, 75, message)
        self.assertIn('stopped', message)
        del self.hub.faults[:]
        self.fetch('plain')
        self.assertEqual(self.hub.requests('storage')[-1][1]['range'], f'bytes={1 << 20}-')
        self.assertEqual((len(self.texts('plain')), self.left_over()), (content.count(b'\n'), []))

    # ---- wrong things

    def test_wrong_things(self):
        self.hub.add_file('owner/files', 'data/a.parquet', parquet('brotli'))
        self.hub.add_file('owner/plain', 'a.jsonl', b'{"text": "one"}\n')
        self.hub.rows[('owner/rows', 'en', 'train')] = [({'content': 'one'}, [])]
        for arguments, says, status, env in [
            ([], 'name at least one data set', 2, {}),
            (['fils'], "did you mean 'files'?", 2, {}),
            (['rows', '--max-samples', '-1'], 'from 0 on', 2, {}),
            (['rows', '--via', 'pigeon'], 'rows, files or auto', 2, {}),
            (['rows', '--via', 'rows'], 'how many with --max-samples', 2, {}),
            (['rows', '--max-samples', '5'], "no column 'text'", 2, {}),
            (['rows', '--max-samples', '5', '--tokenize', 'nothing'], "no tokenizer 'nothing'", 2, {}),
            (['gone'], "has no 'owner/gone'", 2, {}),
            (['gone', '--max-samples', '5', '--via', 'rows'], 'does not serve rows', 1, {}),
            (['files'], 'packed with Brotli', 2, {}),
            (['plain'], "line 1: there is no text 'body'; its texts are: text", 2, {}),
            (['plain'], 'is no URL', 2, {'HF_ENDPOINT': 'hub'}),
            (['converted'], 'HF_HUB_OFFLINE', 1, {'HF_HUB_OFFLINE': '1'}),
            (['rows', '--max-samples', '5', '--force'], 'line break', 2, {'HF_TOKEN': 'a\nb'}),
        ]:
            with self.subTest(arguments):
                self.refused(*arguments, says=says, status=status, **env)
        os.makedirs(self.path('data', 'text', 'zst'))
        with open(self.path('data', 'text', 'zst', 'mine.txt'), 'w', encoding='utf-8') as f:
            f.write('mine')
        self.refused('zst', says='did not write', status=2)
        self.assertEqual(os.listdir(self.path('data', 'text', 'zst')), ['mine.txt'])

    def test_wrong_files_of_sets(self):
        for text, says in [
            ('', 'is empty'), ('a: 1\n', "only key here is 'datasets'"), ('datasets: [a]\n', 'mapping of names'),
            ('datasets:\n  a: {hub: o/n}\n', "either 'text: COLUMN' or 'template: ...'"),
            ('datasets:\n  a: {text: t}\n', "needs 'hub: OWNER/NAME'"),
            ('datasets:\n  a: {hub: o/../n, text: t}\n', "needs 'hub: OWNER/NAME'"),
            ('datasets:\n  a/b: {hub: o/n, text: t}\n', "a set's name is made of"),
            ('datasets:\n  a: {hub: o/n, txt: t}\n', "did you mean 'text'?"),
            ('datasets:\n  a: {hub: o/n, text: t, text: u}\n', 'stands here twice'),
            ('datasets:\n  a: {hub: o/n, template: "{b"}\n', "never closed"),
            ('datasets:\n  a: {hub: o/n, template: "b"}\n', 'names no column'),
            ('datasets:\n  a: {hub: o/n, text: t, starts_not: x}\n', "without 'starts'"),
            ('datasets:\n  a: {hub: o/n, text: t}\n  a: {hub: o/n, text: t}\n', 'stands here twice'),
        ]:
            with self.subTest(text):
                with open(self.path('sets.yaml'), 'w', encoding='utf-8') as f:
                    f.write(text)
                self.refused('a', says=says, status=2)

    def test_the_sets_that_come_with_muse(self):
        listed = run('muse-data', 'fetch', '--list', '--datasets', os.path.join(SOURCE, 'configs', 'datasets.yaml')).stdout
        for name in ['cosmopedia', 'evol_instruct_code', 'wiki_ja', 'japanese_instruct', 'mc4_ja', 'wikitext103', 'arxiv_abstracts',
                     'factuality_source']:
            self.assertIn(name, listed)

    def test_offline(self):
        os.makedirs(self.path('doc'))
        for i in range(30):
            with open(self.path('doc', f'README.{i}'), 'w', encoding='utf-8') as f:
                f.write(f'text of this machine, number {i}\n')
        for env in {'HF_HUB_OFFLINE': '1'}, {'HF_ENDPOINT': 'http://127.0.0.1:9'}:
            with self.subTest(env):
                args = ['files', '--max-samples', '20', '--via', 'files', '--force', '--tokenize', 'bytes', '--else-from', self.path('doc')]
                done = self.fetch(*args, **env)
                self.assertIn("it is NOT 'files'", done.stderr)
                self.assertNotIn('error', done.stderr)
                with open(self.path('data', 'text', 'machine_text', '.label'), encoding='utf-8') as f:
                    self.assertIn("it is not 'files'", f.read())
                info = json.loads(run('muse-data', 'inspect', self.path('data', 'machine_text'), '--json').stdout)
                self.assertEqual(info['documents'], 20)
                self.assertFalse(os.path.exists(self.path('data', 'files.bin')))
        # Not being given the set is no reason to make another.
        self.refused('gone', '--else-from', self.path('doc'), says="has no 'owner/gone'", status=2)


if __name__ == '__main__':
    programs.main()
