from loadtests.sim.conversation import Conversation, Shape

SHAPE = Shape(systems=2, system_tokens=50, turns=3, turn_tokens=10)


def test_each_turn_sends_the_whole_conversation_again() -> None:
    conversation = Conversation(SHAPE, seed=1)
    first = list(conversation.ask())
    conversation.answered("yes")
    second = conversation.ask()
    assert second[: len(first)] == first
    assert [message["role"] for message in second] == ["system", "user", "assistant", "user"]


def test_after_the_last_turn_or_a_failure_another_conversation_begins() -> None:
    conversation = Conversation(SHAPE, seed=1)
    sessions = []
    for turn in range(5):
        conversation.ask()
        sessions.append(conversation.session)
        if turn == 3:
            conversation.failed()
        else:
            conversation.answered("yes")
    assert len({*sessions[:3]}) == 1
    assert len({*sessions}) == 3


def test_system_prompts_are_shared_between_users_and_depend_on_the_seed() -> None:
    prompts = {Conversation(SHAPE, seed).ask()[0]["content"] for seed in range(30)}
    assert len(prompts) == 2
    assert Conversation(SHAPE, 7).ask() == Conversation(SHAPE, 7).ask()
    assert all(len(prompt) >= 200 for prompt in prompts)


def test_pauses_are_never_negative_and_can_be_turned_off() -> None:
    assert Conversation(SHAPE, 1).pause_s() >= 0
    assert Conversation(Shape(think_s=0), 1).pause_s() == 0.0
