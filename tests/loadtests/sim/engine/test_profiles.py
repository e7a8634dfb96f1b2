import pytest

from loadtests.sim.engine.profiles import PROFILES, EngineProfile


@pytest.mark.parametrize("profile", PROFILES.values(), ids=str)
def test_a_profile_can_run_a_full_batch_and_its_longest_request(profile: EngineProfile) -> None:
    assert profile.max_num_seqs < profile.max_batched_tokens, "decoding alone would use the whole budget"
    assert profile.max_model_len <= profile.kv_tokens


def test_profiles_are_registered_under_their_names() -> None:
    assert {"h100-8b", "a100-8b", "h100-70b-tp8", "tiny"} <= set(PROFILES)
    assert all(name == profile.name for name, profile in PROFILES.items())


def test_the_h100_profile_prefills_at_40_percent_of_its_compute_and_decodes_at_the_published_step() -> None:
    profile = PROFILES["h100-8b"]
    assert 2 * 8.03e9 / profile.prefill_token_s == pytest.approx(0.4 * 989e12, rel=0.01)
    assert 4 * 4096 * 32 / profile.attention_s == pytest.approx(0.4 * 989e12, rel=0.05)
    assert profile.sequence_s + 5400 * profile.kv_token_s == pytest.approx(0.35e-3, rel=0.02)
