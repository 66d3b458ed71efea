#!/usr/bin/env python3
"""Every relative link of the project's Markdown leads to a file or folder. Usage: links.py [ROOT]"""
import os
import re
import sys

LINK = re.compile(r'\]\(([^)\s]+)\)')
FOLDERS = ['', 'docs', 'ops', 'bench', 'configs']


def documents(root):
    for folder in FOLDERS:
        path = os.path.join(root, folder)
        names = sorted(os.listdir(path)) if os.path.isdir(path) else []
        yield from (os.path.join(path, name) for name in names if name.endswith('.md'))


def main():
    root = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), '../..'))
    n_links, broken = 0, 0
    for path in documents(root):
        with open(path, encoding='utf-8') as f:
            for target in LINK.findall(f.read()):
                if re.match(r'[a-z]+:', target):
                    continue
                n_links += 1
                file = target.partition('#')[0]
                if file and not os.path.exists(os.path.join(os.path.dirname(path), file)):
                    print(f'{os.path.relpath(path, root)}: the link {target} leads nowhere')
                    broken += 1
    print(f'{n_links} links, {broken} broken')
    return 1 if broken or n_links == 0 else 0


if __name__ == '__main__':
    sys.exit(main())
