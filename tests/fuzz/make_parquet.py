#!/usr/bin/env python3
"""Makes the small Parquet files in corpus/parquet, which the fuzzer starts from and the end-to-end tests read.

Needs pyarrow, which the tests themselves do not. Usage: make_parquet.py FOLDER
All files hold the columns id, title, text of N rows (see row()); no two are written alike.
"""
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq


def row(i):
    """Row i as tests/e2e/test_fetch.py expects it; every seventh text is null."""
    return i, f'Title {i % 3}', None if i % 7 == 6 else f'Document {i}: ' + '日本語 text. ' * (i % 5)


def table(n):
    rows = [row(i) for i in range(n)]
    return pa.table({'id': [r[0] for r in rows], 'title': pa.array([r[1] for r in rows], pa.string()),
                     'text': pa.array([r[2] for r in rows], pa.string())})


FILES = {
    'snappy': {'compression': 'snappy'},
    'gzip': {'compression': 'gzip'},
    'zstd': {'compression': 'zstd'},
    'plain': {'compression': 'none', 'use_dictionary': False},
    'v2-snappy': {'compression': 'snappy', 'data_page_version': '2.0'},
    'v2-zstd-plain': {'compression': 'zstd', 'data_page_version': '2.0', 'use_dictionary': False},
    'groups': {'compression': 'snappy', 'row_group_size': 9, 'data_page_size': 64},
    'checksum': {'compression': 'zstd', 'write_page_checksum': True, 'use_dictionary': False},
    'delta-length': {'compression': 'none', 'use_dictionary': False, 'column_encoding': {'text': 'DELTA_LENGTH_BYTE_ARRAY'}},
    'brotli': {'compression': 'brotli'},  # to be refused by name
}


def main():
    os.makedirs(sys.argv[1], exist_ok=True)
    for name, options in FILES.items():
        pq.write_table(table(40).replace_schema_metadata(None), os.path.join(sys.argv[1], name + '.parquet'), **options)
    nested = pa.table({'text': ['a', 'b'], 'talk': [[{'who': 'x', 'says': 'y'}]] * 2, 'n': [1, 2]})
    pq.write_table(nested, os.path.join(sys.argv[1], 'nested.parquet'), compression='none')


if __name__ == '__main__':
    main()
