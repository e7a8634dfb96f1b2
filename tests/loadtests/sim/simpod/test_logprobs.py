from loadtests.sim.simpod.logprobs import chat_entry, completion_logprobs, ranked


def test_the_sampled_token_is_the_likeliest_and_alternatives_differ() -> None:
    found = ranked(" the", 20)
    words, values = zip(*found, strict=True)
    assert words[0] == " the" and len(set(words)) == 20
    assert list(values) == sorted(values, reverse=True) and values[0] < 0


def test_an_entry_has_the_tokens_bytes() -> None:
    assert chat_entry("é", 0) == chat_entry("é", 1) | {"top_logprobs": []}
    assert chat_entry("é", 0)["bytes"] == [195, 169]


def test_places_go_on_where_the_tokens_before_ended() -> None:
    found = completion_logprobs(["ab", "c"], 1, offset=5, unscored=1)
    assert found["text_offset"] == [5, 7]
    assert found["token_logprobs"][0] is None and found["top_logprobs"][1] == {"c": found["token_logprobs"][1]}
