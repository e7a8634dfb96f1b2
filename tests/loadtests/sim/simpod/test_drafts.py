import msgspec

from loadtests.sim.simpod.drafts import Ask, draft, ids_of
from loadtests.sim.simpod.forms import Form
from loadtests.sim.simpod.text import prompt_of, token_id
from tests.loadtests.sim.simpod.written import SPEC

PROMPT = prompt_of(b"hi")
LONG = Ask(limit=40, ignore_eos=True)


def test_an_answer_stops_at_the_first_of_its_stops_and_counts_the_tokens_up_to_there() -> None:
    text = draft(LONG, PROMPT, SPEC).text
    stopped = draft(LONG._replace(stops=[text[30:34], text[10:14]]), PROMPT, SPEC)
    assert (stopped.text, stopped.finish, stopped.stop_reason) == (text[:10], "stop", text[10:14])
    assert stopped.tokens == 4


def test_a_stop_counts_only_after_the_least_number_of_tokens() -> None:
    text = draft(LONG, PROMPT, SPEC).text
    stopped = draft(LONG._replace(stops=[text[0:4]], least=20), PROMPT, SPEC)
    assert stopped.tokens > 20


def test_a_token_can_stop_an_answer() -> None:
    said = draft(LONG, PROMPT, SPEC)
    number = said.token_ids()[5]
    stopped = draft(LONG._replace(stop_ids=frozenset([number])), PROMPT, SPEC)
    assert stopped.stop_reason == number == token_id(stopped.stop_reason.to_bytes(4, "little"))  # type: ignore[union-attr]
    assert said.text.startswith(stopped.text) and stopped.tokens <= 6


def test_a_formed_answer_is_cut_at_the_limit() -> None:
    form = Form(schema={"type": "string", "minLength": 100})
    whole, cut = draft(Ask(form=form), PROMPT, SPEC), draft(Ask(limit=3, form=form), PROMPT, SPEC)
    assert (whole.finish, cut.finish, cut.tokens) == ("stop", "length", 3)
    assert len(msgspec.json.decode(whole.text)) >= 100 and whole.text.startswith(cut.text)


def test_pieces_are_escaped_and_keep_characters_whole() -> None:
    said = draft(Ask(form=Form(choices=('é"\n\\ż🐢x',))), PROMPT, SPEC)
    assert "".join(said.words()) == said.text == 'é"\n\\ż🐢x'
    assert msgspec.json.decode(b'"' + b"".join(said.pieces) + b'"') == said.text


def test_the_answer_is_hashed_as_part_of_the_next_prompt() -> None:
    said = draft(Ask(limit=64, ignore_eos=True), PROMPT, SPEC)
    assert len(ids_of(PROMPT, said, SPEC)) == 4
