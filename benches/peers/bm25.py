"""BM25 over the glosses of WordNet: bm25s with numba, and tantivy, from the same token ids as ours."""

import os
from concurrent.futures import ThreadPoolExecutor

import glosses

K = 50
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))


def bm25s_index(documents):
    import bm25s

    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75, backend="numba")
    vocabulary = {str(i): i for i in range(max(max(d, default=0) for d in documents) + 1)}
    index.index((documents, vocabulary), create_empty_token=False, show_progress=False)
    return index


def bm25s_queries(name):
    """Queries are lists of ids, so that nothing is looked up; the second call still compiles."""
    index = bm25s_index(glosses.load("documents"))

    def run(queries):
        return index.retrieve(queries, k=K, n_threads=THREADS, show_progress=False)

    run.warm = 2
    return glosses.load(name), run


def bm25s_long():
    return bm25s_queries("long")


def bm25s_short():
    return bm25s_queries("short")


def bm25s_build():
    return glosses.load("documents"), bm25s_index


def tantivy_index(texts):
    """Words are the ids in decimal, cut at white space; frequencies without positions; one segment."""
    import tantivy

    schema = tantivy.SchemaBuilder().add_text_field("text", tokenizer_name="whitespace", index_option="freq").build()
    index = tantivy.Index(schema)
    writer = index.writer(heap_size=500_000_000, num_threads=1)
    for text in texts:
        writer.add_document(tantivy.Document(text=text))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    return index, schema


def spelt(texts):
    return [" ".join(map(str, text)) for text in texts]


def tantivy_queries(name):
    """Boolean queries of should-clauses, made beforehand; a thread for each share of them (the search lets go of Python's lock)."""
    import tantivy

    index, schema = tantivy_index(spelt(glosses.load("documents")))
    searcher = index.searcher()
    term = lambda token: (tantivy.Occur.Should, tantivy.Query.term_query(schema, "text", str(token)))
    queries = [tantivy.Query.boolean_query([term(token) for token in text]) for text in glosses.load(name)]
    pool = ThreadPoolExecutor(THREADS)

    def share(first):
        return [searcher.search(query, K, count=False) for query in queries[first::THREADS]]

    return queries, lambda _: list(pool.map(share, range(THREADS)))


def tantivy_long():
    return tantivy_queries("long")


def tantivy_short():
    return tantivy_queries("short")


def tantivy_build():
    return spelt(glosses.load("documents")), tantivy_index
