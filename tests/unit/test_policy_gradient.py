"""Returns, advantages and losses by hand, and what an update does and leaves alone."""

import copy
import math

import pytest
import torch
from torch.distributions import Categorical

from patchscout.networks.policy import Policy
from patchscout.paper.networks import PaperPolicy
from patchscout.training.policy_gradient import (
    MAX_GRADIENT_NORM,
    PolicyGradient,
    PolicySettings,
    Rollout,
    clipped_policy_loss,
    discounted_returns,
    joint_advantages,
)

WALKERS, WINDOW = 6, 32


def make(policy=None, *, learns=True, **settings):
    torch.manual_seed(0)
    policy = Policy(WINDOW, 16, 8) if policy is None else policy
    return PolicyGradient(policy, PolicySettings(**settings), seed=0, learns=learns)


def observations(count, seed=0, channels=5):
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(count, WALKERS, channels, WINDOW, WINDOW, generator=rng)


def random_rollout(policy, num_steps, seed=0):
    """A rollout without a policy that acts, so that it can be given to several."""
    rng = torch.Generator().manual_seed(seed)
    return Rollout(
        [policy.encode(observation) for observation in observations(num_steps, seed)],
        [torch.randint(9, (WALKERS,), generator=rng) for _ in range(num_steps)],
        [torch.rand(WALKERS, generator=rng) for _ in range(num_steps)],
        torch.rand(num_steps, generator=rng).tolist(),
    )


def parameters(gradient):
    return torch.nn.utils.parameters_to_vector(gradient.policy.parameters()).detach().clone()


def test_returns_by_hand():
    rewards = torch.tensor([[1.0, 0.0], [2.0, -1.0], [3.0, 4.0]])
    # 3 + 0.5 * 8 = 7; 2 + 0.5 * 7 = 5.5; 1 + 0.5 * 5.5 = 3.75; and 4; 1; 0.5 without a last value
    expected = torch.tensor([[3.75, 0.5], [5.5, 1.0], [7.0, 4.0]])
    assert torch.equal(discounted_returns(rewards, 0.5, torch.tensor([8.0, 0.0])), expected)
    assert torch.equal(discounted_returns(rewards, 0.0, torch.tensor([8.0, 8.0])), rewards)


def test_clipped_loss_by_hand():
    # min(r A, clip(r) A) = min(1.5, 1.2), min(0.5, 0.8), min(-1.5, -1.2), min(-0.5, -0.8)
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5], requires_grad=True)
    loss = clipped_policy_loss(ratio, torch.tensor([1.0, 1.0, -1.0, -1.0]))
    assert loss.item() == pytest.approx(-(1.2 + 0.5 - 1.5 - 0.8) / 4)
    (gradient,) = torch.autograd.grad(loss, ratio)
    # Where the action has become as much more or less probable as it should, it stops.
    torch.testing.assert_close(gradient, torch.tensor([0.0, -0.25, 0.25, 0.0]))


def test_at_ratio_one_the_gradient_is_that_of_reinforce():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 9, generator=rng, requires_grad=True)
    advantages = torch.randn(20, generator=rng)
    log_prob = Categorical(logits=logits).log_prob(torch.arange(20) % 9)
    clipped = clipped_policy_loss((log_prob - log_prob.detach()).exp(), advantages)
    (found,) = torch.autograd.grad(clipped, logits, retain_graph=True)
    (expected,) = torch.autograd.grad(-(log_prob * advantages).mean(), logits)
    torch.testing.assert_close(found, expected)


def test_advantages_by_hand():
    own = torch.tensor([[1.0, 3.0], [10.0, 20.0]])  # centered in each step: -1 1, -5 5
    shared = torch.tensor([[0.0], [2.0]])  # centered over time: -1, 1
    expected = torch.tensor([[-2.0, 0.0], [-4.0, 6.0]]) / math.sqrt((4 + 0 + 16 + 36) / 4)
    torch.testing.assert_close(joint_advantages(own, shared), expected)


@pytest.mark.parametrize("walkers", [2, 7, 32])
def test_advantages_have_mean_zero_and_unit_spread(walkers):
    rng = torch.Generator().manual_seed(0)
    own = 5 + 1e-3 * torch.randn(8, walkers, generator=rng)
    advantages = joint_advantages(own, torch.randn(8, 1, generator=rng))
    assert advantages.mean().item() == pytest.approx(0, abs=1e-5)
    assert advantages.std(correction=0).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -5.1, 3.3])
@pytest.mark.parametrize("shape", [(3, 1), (7, 7), (20, 32)])
def test_rewards_that_are_all_equal_give_no_advantage(shape, value):
    own, shared = torch.full(shape, value), torch.full((shape[0], 1), value)
    assert not joint_advantages(own, shared).any()


def test_a_walker_alone_is_compared_with_itself_over_time():
    own = torch.tensor([[1.0], [3.0], [1.0], [3.0]])
    expected = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]])
    torch.testing.assert_close(joint_advantages(own, torch.zeros(4, 1)), expected)


def test_an_update_follows_the_gradient_worked_out_anew():
    gradient = make(update_epochs=1, gamma=0.5, entropy_weight=0.02)
    policy = copy.deepcopy(gradient.policy)
    first, second, following = observations(3)
    for observation in (first, second):
        gradient.act(observation)
    own, shared = torch.rand(2, WALKERS), [0.25, -0.5]
    for rewards, alike in zip(own, shared, strict=True):
        gradient.note_reward(rewards, alike)
    actions = torch.cat(gradient.rollout.actions)
    figures = gradient.update(following)

    def evaluate(observation):
        logits, values = policy(policy.encode(observation))
        return logits.log_softmax(dim=1), values

    with torch.no_grad():
        bootstrap = evaluate(following)[1]
    returns = torch.stack([own[0] + 0.5 * (own[1] + 0.5 * bootstrap), own[1] + 0.5 * bootstrap])
    log_probs, values = evaluate(torch.cat([first, second]))
    chosen = log_probs[torch.arange(2 * WALKERS), actions]
    own_part = (returns - values.detach().view(2, WALKERS)).numpy()
    own_part = own_part - own_part.mean(axis=1, keepdims=True)
    last = -0.5 + 0.5 * (-0.125 / 0.5)  # as if the mean -0.125 were paid for ever after
    shared_part = torch.tensor([0.25 + 0.5 * last, last])[:, None]
    advantages = torch.from_numpy(own_part) + shared_part - shared_part.mean()
    advantages = (advantages / advantages.std(correction=0)).flatten()
    entropy = -(log_probs.exp() * log_probs).sum(dim=1).mean()
    value_loss = (values - returns.flatten()).square().mean()
    loss = -(advantages * chosen).mean() + 0.5 * value_loss - 0.02 * entropy
    loss.backward()
    torch.nn.utils.clip_grad_norm_(policy.parameters(), MAX_GRADIENT_NORM)

    for found, expected in zip(gradient.policy.parameters(), policy.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, atol=1e-5, rtol=1e-3)
    assert figures["entropy"] == pytest.approx(entropy.item())
    assert figures["value_loss"] == pytest.approx(value_loss.item(), rel=1e-4)
    assert figures["mean_return"] == pytest.approx(returns.mean().item(), rel=1e-4)
    assert len(gradient.rollout) == 0


@pytest.mark.parametrize("following", [None, observations(1, seed=3)[0]])
def test_skipped_steps_leave_no_trace(following):
    whole, late = make(), make()
    whole.rollout = random_rollout(whole.policy, 5)
    kept = random_rollout(whole.policy, 5)
    late.rollout = Rollout(
        kept.observations[2:], kept.actions[2:], kept.own_rewards[2:], kept.shared_rewards[2:]
    )
    assert whole.update(following, skip=2) == late.update(following)
    assert torch.equal(parameters(whole), parameters(late))
    assert not torch.equal(parameters(whole), parameters(make()))


def test_where_there_is_nothing_to_learn_from_nothing_changes():
    gradient = make()
    before = parameters(gradient)
    assert gradient.update(None) == {}
    gradient.act(observations(1)[0])
    assert gradient.update(None) == {}
    gradient.rollout = random_rollout(gradient.policy, 3)
    assert gradient.update(None, skip=3) == {}
    assert torch.equal(parameters(gradient), before)
    gradient.rollout = random_rollout(gradient.policy, 3)
    assert gradient.update(None)
    assert not torch.equal(parameters(gradient), before)


def test_switched_off_it_acts_but_never_learns():
    on, off = make(), make(learns=False)
    before = parameters(off)
    for observation in observations(3):
        assert torch.equal(on.act(observation), off.act(observation))
        on.note_reward(observation.mean(dim=(1, 2, 3)))
        off.note_reward(observation.mean(dim=(1, 2, 3)))
    assert off.update(None) == {}
    assert len(off.rollout) == 0
    assert torch.equal(parameters(off), before)
    assert on.update(None)


def entropy_after(num_updates, entropy_weight):
    """Entropy of a policy that prefers one action and is paid nothing."""
    gradient = make(entropy_weight=entropy_weight, learning_rate=3e-3)
    with torch.no_grad():
        first, _, second, _ = gradient.policy.trunk  # pyright: ignore
        for layer in (first, second):  # the first feature is 3 for a stop, else 0
            layer.weight[0] = 0.0
            layer.bias[0] = 0.0
        first.weight[0, -9] = 3.0
        second.weight[0, 0] = 1.0
        gradient.policy.action_head.weight[0, 0] = 1.0  # pyright: ignore
        for parameter in gradient.policy.value_head.parameters():
            parameter.zero_()
    figures = {}
    for _ in range(num_updates):
        gradient.act(observations(1)[0])
        gradient.note_reward(torch.zeros(WALKERS))
        figures = gradient.update(None)
    return figures["entropy"]


def test_without_rewards_the_bonus_alone_raises_entropy():
    before = entropy_after(1, 0.0)
    assert before < 1.5
    assert entropy_after(20, 0.0) == pytest.approx(before)
    assert entropy_after(20, 0.1) > before + 0.3


def test_batch_norm_stands_still_while_acting_and_follows_after_an_update():
    gradient = make(PaperPolicy(WINDOW))
    before = {name: buffer.clone() for name, buffer in gradient.policy.named_buffers()}
    for observation in observations(3, channels=6):
        gradient.act(observation)
        gradient.note_reward(torch.rand(WALKERS))
    assert not gradient.policy.training
    for name, buffer in gradient.policy.named_buffers():
        assert torch.equal(buffer, before[name]), name
    gradient.update(None)
    assert not gradient.policy.training
    for name, buffer in gradient.policy.named_buffers():
        assert not torch.equal(buffer, before[name]), name
