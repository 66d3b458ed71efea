"""A server on this machine that plays the hub of data sets, its viewer, and the host that its files are redirected to."""
import hashlib
import http.server
import json
import threading
import urllib.parse

COMMIT = '0123456789abcdef0123456789abcdef01234567'


class Hub:
    """Three servers: hub, viewer and storage. `log` has (server, path, headers) of every request."""

    def __init__(self):
        self.files, self.rows, self.log = {}, {}, []
        self.faults = []       # functions (handler, server, path) -> True when they answered; asked before all else
        self.redirect = True   # large files come from the storage
        self.private = None    # a token without which the hub answers 401
        self.lock = threading.Lock()
        self.servers = {}
        for name in 'hub', 'viewer', 'storage':
            handler = type('Handler', (Handler,), {'hub': self, 'name': name})
            server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
            server.handle_error = lambda *args: None  # clients that go away are what is tested
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            self.servers[name] = server

    def url(self, name):
        return f'http://127.0.0.1:{self.servers[name].server_address[1]}'

    def close(self):
        for server in self.servers.values():
            server.shutdown()
            server.server_close()

    def add_file(self, repository, path, content, revision='main', lfs=True):
        self.files[(repository, revision, path)] = (content, lfs)

    def requests(self, server, contains=''):
        return [(path, headers) for name, path, headers in self.log if name == server and contains in path]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args):
        pass

    def answer(self, code, body=b'', headers=(), cut=None):
        """Sends an answer; with `cut`, only so many bytes of it before the connection ends."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(code)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body if cut is None else body[:cut])
            self.wfile.flush()
        except OSError:
            pass
        if cut is not None:
            self.close_connection = True
            self.connection.close()

    def do_GET(self):
        try:
            self.serve()
        except (BrokenPipeError, ConnectionResetError):
            pass

    def serve(self):
        hub, path = self.hub, urllib.parse.unquote(self.path)
        with hub.lock:
            hub.log.append((self.name, self.path, {k.lower(): v for k, v in self.headers.items()}))
        for fault in list(hub.faults):
            if fault(self, self.name, path):
                return
        if self.name != 'storage' and hub.private and self.headers.get('Authorization') != 'Bearer ' + hub.private:
            self.answer(401, {'error': 'Invalid credentials'})
        elif self.name == 'hub':
            self.serve_hub(path)
        elif self.name == 'viewer':
            self.serve_rows()
        else:
            self.serve_storage(path)

    def serve_hub(self, path):
        parts = path.split('?')[0].strip('/').split('/')
        repository = '/'.join(parts[2:4]) if parts[0] == 'api' else '/'.join(parts[1:3])
        mine = {p: (c, lfs) for (r, _, p), (c, lfs) in self.hub.files.items() if r == repository}
        revisions = {rev for (r, rev, _) in self.hub.files if r == repository}
        if parts[0] == 'api' and parts[4] == 'revision':
            revision = '/'.join(parts[5:])
            self.answer(200, {'sha': COMMIT}) if revision in revisions else self.answer(404, {'error': 'no revision'})
        elif parts[0] == 'api' and parts[4] == 'tree' and parts[5] == COMMIT:
            self.serve_tree('/'.join(parts[6:]), mine)
        elif parts[0] == 'datasets' and parts[3] == 'resolve' and parts[4] == COMMIT and '/'.join(parts[5:]) in mine:
            content, lfs = mine['/'.join(parts[5:])]
            if lfs and self.hub.redirect:
                sha = hashlib.sha256(content).hexdigest()
                self.answer(302, b'', [('Location', f'{self.hub.url("storage")}/{sha}'), ('X-Linked-ETag', f'"{sha}"')])
            else:
                self.send_range(content)
        else:
            self.answer(404, {'error': 'not found'})

    def serve_tree(self, folder, files):
        entries = []
        for path, (content, lfs) in sorted(files.items(), reverse=True):
            if not path.startswith(folder):
                continue
            git = hashlib.sha1(b'blob %d\0' % len(content) + content).hexdigest()
            entry = {'type': 'file', 'oid': git, 'size': len(content), 'path': path}
            if lfs:
                entry['lfs'] = {'oid': hashlib.sha256(content).hexdigest(), 'size': len(content), 'pointerSize': 130}
            entries.append(entry)
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        at = int(query.get('cursor', ['0'])[0])  # two entries a page, so that there are several
        more = []
        if at + 2 < len(entries):
            base = self.path.split('&cursor')[0]
            more = [('Link', f'<{self.hub.url("hub")}{base}&cursor={at + 2}>; rel="next"')]
        self.answer(200, entries[at:at + 2], more)

    def serve_storage(self, path):
        for content, _ in self.hub.files.values():
            if hashlib.sha256(content).hexdigest() == path.strip('/'):
                return self.send_range(content)
        return self.answer(404)

    def send_range(self, content, cut=None):
        etag = '"%s"' % hashlib.md5(content).hexdigest()
        wanted = self.headers.get('Range')
        if wanted and self.headers.get('If-Range', etag) == etag:
            first = int(wanted.split('=')[1].split('-')[0])
            if first >= len(content):
                return self.answer(416, b'', [('Content-Range', f'bytes */{len(content)}')])
            return self.answer(206, content[first:], [('ETag', etag), ('Content-Range',
                               f'bytes {first}-{len(content) - 1}/{len(content)}')], cut)
        return self.answer(200, content, [('ETag', etag)], cut)

    def serve_rows(self):
        query = {k: v[0] for k, v in urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query).items()}
        rows = self.hub.rows.get((query['dataset'], query['config'], query['split']))
        if rows is None:
            return self.answer(404, {'error': 'The dataset viewer is not available'})
        first, n = int(query['offset']), int(query['length'])
        if n > 100:
            return self.answer(422, {'error': "Parameter 'length' must not be greater than 100"})
        page = [{'row_idx': first + i, 'row': r[0], 'truncated_cells': r[1]} for i, r in enumerate(rows[first:first + n])]
        return self.answer(200, {'features': [], 'rows': page, 'num_rows_total': len(rows), 'partial': False},
                           [('X-Revision', COMMIT)])
