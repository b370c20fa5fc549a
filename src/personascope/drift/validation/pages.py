"""The words of the validation page: how each table was made, and what is to be learned from it."""

from personascope.directions.validation import AGREEMENT_QUESTIONS, AGREEMENT_VARIANTS, QUESTIONS, ROLES, WIDTH
from personascope.drift.validation import coverage, false_alarms

INTRODUCTION = """
# Validation

What the conversation test, the intervals and the measures of an axis promise, measured where the truth is known. The
tables are made by

```sh
snakemake validation --cores all --configfile config/validation.yaml
```

which needs no model and some 15 minutes of one core, as `results/validation/validation/validation.md`, of which this
page is a copy but for its last section, and as CSV beside it. Seeds are fixed: the same code gives the same numbers.
`validation.effort` below 1 is a quicker and rougher look. Numbers behind ± are Monte-Carlo standard errors.

The simulated responses and conversations are normal and their effects add up, where the tables do not say otherwise.
They measure whether the methods do what they claim under the assumptions that they make; what a real model does is in
the last section, [Conversations with labels](#conversations-with-labels).
"""

SECTIONS: dict[str, str] = {}
SECTIONS["false_alarms"] = f"""
## False alarms of the conversation test

Percent of conversations without drift that have an alarm at any turn, at a stated 5 %, by the number of turns and by
how turns of a conversation depend on each other: a share of the variance that is the conversation's own (intra-class
correlation), or an AR(1). {false_alarms.REFERENCES} reference conversations calibrate the test, {false_alarms.FRESH}
others are tested, {false_alarms.REPLICATIONS["false_alarms"]} times. Held: 3 to 7 %.

A test that takes turns as exchangeable with single answers has 10 to 22 % false alarms under such dependence, 20 %
when it is watched turn by turn: that was measured on the method that this package had before, and is not simulated
again here.
"""
SECTIONS["false_alarms_varied"] = f"""
### Where else it might fail

The same under other options, noise and references. *Two conversations a script*: both share a part of their variance,
in the references and in what is tested. *One domain lower*: the conversations of one domain out of
{false_alarms.DOMAINS} lie {false_alarms.APART:g} standard deviations lower, as poems do. The test over all domains
then has its 5 % on the whole and not in each: nearly all its false alarms are in the domain that lies lower. Within
each domain, with {false_alarms.REFERENCES} references of its own, it has them in each. Name the domain of
conversations.
"""
SECTIONS["power"] = """
### Power

Percent of conversations with an alarm at any turn, where all turns from the middle on lie lower by so many standard
deviations. A drop of one standard deviation is mostly missed, also with 20 turns. The last row has `baseline_turns` 2:
what the conversation shares is taken off, and more is found.
"""
SECTIONS["axis_coverage"] = f"""
## Coverage of intervals

Percent of 95 % intervals that hold their target, of {coverage.REPLICATIONS} samples of responses a cell:
{coverage.ROLES} roles (two of them anchors), crossed variants and questions, in `d` dimensions, each dimension with
noise of variants, questions and responses of half a standard deviation beside an axis of length 3. *kappa* is the
median cosine of the estimated axis to the population's. Targets:

- *score*: kappa times the turn's score on the population's axis, the target that `intervals.spread` names;
- *population*: that score itself, by the interval divided by the median of `cos_to_axis`;
- *change*: kappa times the change of the score between two turns;
- *contribution*: kappa times the contribution of a feature, whichever it is;
- *largest*: the same of the {coverage.CHOSEN} features with the largest contributions.

Held, for all but the last: 90 to 97 %. No cell lies below. Above are those with two variants (up to 100 %), since a
single difference says little of how much variants matter, and those of `pc1` where the axis is little more than noise
(kappa below 0.65), an axis that should not be interpreted. Before the degrees of freedom were counted, the intervals
were too narrow: 52 to 70 % with two variants and 240 questions in 40 dimensions, in a look at 30 samples.

*Largest* is no promise but a limit. What is picked as the largest by an axis is too large by that axis, the more so
the more features there are to pick from, and the interval does not know of the choice. The column `contrib_held_out`
of the feature tables is the remedy: chosen by one half of the questions and variants, estimated by the other.
"""
SECTIONS["text_coverage"] = f"""
### With other tokens, too

The intervals `score_low` to `score_high` hold what the turn's tokens are drawn around (*text*), with
{coverage.TEXT_VARIANTS} variants and {coverage.TEXT_QUESTIONS} questions; tokens follow an AR(1) of the coefficient
*carried* around the turn's vector. *tokens*: the part of the token noise alone, on the axis as it was estimated.
Held: 90 to 97 %. Both parts together hold, up to 98.5 % where tokens are independent: two cautious widths are added.
A correlation of neighbors of 0.8 is more than blocks of 16 tokens see, and the part of the tokens alone then holds 85
to 91 %, least in short turns.
"""
SECTIONS["role_coverage"] = """
### Intervals of roles

`quality.role_intervals`: percent of 95 % intervals of a role's mean projection that hold its mean over all questions
and variants, by which part of the noise is the large one. Held: 90 to 97 %. With three variants and more they hold,
and where nothing but single responses varies they are a little wide. With two variants 85 to 93 % hold where variants
matter: the one difference between them is often small by chance, and then nothing says that it matters. Give roles at
least three variants.
"""
SECTIONS["axis_quality"] = f"""
## How good an axis is

Means over samples of {ROLES} roles, {QUESTIONS} questions and {WIDTH} dimensions; *signal* is the length of the
population's axis. *cosine* is the truth: of the estimated axis to the population's. Halves of the questions that
share the variants (*split_half_shared*) look far too good, halves that share neither (*split_half*) are on the safe
side: they are the reliability of an axis from a quarter of the responses. *auc_true* is the truth for telling the
anchor's responses from others', on fresh questions under fresh variants.

*auc* is what the axis stage reports: by an axis that has seen neither the response's question nor its variant. It is
right, a little on the safe side. An axis that has seen the variant (*auc_shared*) would say 1.00 where the truth is
0.62, since the variant's own direction tells the anchor from the others; cross-fitted projections and the scores of the
roles' responses leave out both, too.
"""
SECTIONS["agreement"] = f"""
### cos(diff, pc1) under noise

Roles that differ in nothing but noise, {AGREEMENT_VARIANTS} variants and {AGREEMENT_QUESTIONS} questions. *expected*
is 1 / sqrt(R - 1), *high* the 95th percentile over data sets, *null_high* what a data set's own permuted labels give
for it, and *above* the share of data sets whose agreement is above that, which should be 0.05. It is 0.04 to 0.09: of
100 permutations the 95th percentile is known only roughly, and is on average a little low. An agreement that is barely
above its null says nothing.
"""
SECTIONS["benchmark"] = """
## Conversations with labels

Ninety scripts in `resources/benchmark`: ten base conversations, each plain, with something that changes from the
fifth turn on and is no persona (an angry user, another genre, topic or language, longer answers, repeated questions),
and with a user who asks the model into a persona, one of the roles of the axis or none of them.

```sh
snakemake benchmark --cores all --configfile config/benchmark.yaml
```

makes the conversations, analyzes them, and writes `results/benchmark/benchmark/.../benchmark.csv` and its figure: per
contrast and analysis the AUC against plain conversations, the share with an alarm at the onset or later, early alarms
and the delay in turns, with intervals by draws of base scripts; beside the test, signals that anyone would try, at
the level at which they alarm as often as the test does on plain conversations and references.

What the embedded model gives stands at this place in the project's `docs/validation.md`.
"""
