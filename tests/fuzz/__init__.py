"""
Strangers' bytes at every boundary: a value or a named error, in bounded time, never anything else.

`make fuzz` feeds each boundary a million inputs; tests/unit/test_fuzz.py a hundred. An
input is a real one (tests/data) that was broken: bits, pieces, lengths, types, nesting, keys,
text (mutate.py). What led to an outcome or to a line of ctrwatch that was not seen before
joins the real ones and is broken further (runner.py): that is the guidance. Lines are traced
for one input in a hundred only, since sys.settrace makes an input twenty times slower. A
fuzzer by library was not taken: Hypothesis makes some thousand inputs a second where this
makes tens of thousands, and Atheris would need the same mutators to get past a JSON decoder.
"""
