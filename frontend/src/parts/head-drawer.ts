/** What the head drawer says and draws about one head: pure functions from the history to sentences and lines. */
import type { LineSpec } from '../charts/spec'
import { signed, significant, whole } from '../model/format'
import {
    headName,
    isThere,
    highGoesFirst,
    rankedCriterion,
    ranksAmong,
    rankWords,
    scoreGrid,
    statesAt,
    stateWord,
    type Grid,
    type LifeSpan,
} from '../model/heads'
import { ABSENT, PRUNED, type Criterion, type HeadDecision, type Heads } from '../model/types'

export interface Chapter {
    state: number
    step: number
    title: string
    /** The record's own words, from outside. */
    reason: string
    facts: string[]
    /** The facts say why already; the record's own words repeat it. */
    repeats: boolean
}

const VERBS: Record<HeadDecision['kind'], string> = {
    pruned: 'Pruned',
    regrown: 'Grown back',
    added: 'Added to the model',
}

export function lossWords(before: number | null, after: number | null): string {
    if (before === null && after === null) return ''
    if (before === null || after === null)
        return `loss ${significant(after ?? before, 4)} ${after === null ? 'before' : 'after'}`
    return `loss ${significant(before, 4)} → ${significant(after, 4)} (${signed(after - before)})`
}

export function scoreAgainst(decision: HeadDecision, at: number): string {
    const score = decision.score?.data[at]
    if (score === undefined) return ''
    const label = decision.score_label || 'score'
    const { threshold } = decision
    if (Number.isNaN(score)) return `${label}: not measured`
    if (threshold === null || Number.isNaN(threshold)) return `${label} ${significant(score)}`
    // Scores travel in single precision.
    const sign = Math.fround(score) === Math.fround(threshold) ? '=' : score < threshold ? '<' : '>'
    return `${label} ${significant(score)} ${sign} threshold ${significant(threshold)}`
}

export function rankIn(decision: HeadDecision, at: number): string {
    const ranks = decision.rank?.data
    if (!ranks) return ''
    // Heads that a rule kept have no rank of their own, and those of one group share theirs.
    let of = 0
    for (let each = 0; each < ranks.length; each++) of = Math.max(of, ranks[each]! + 1)
    const rank = ranks[at] ?? -1
    return rankWords(rank >= 0 && highGoesFirst(decision.strategy) ? of - 1 - rank : rank, of)
}

export function factsOf(decision: HeadDecision, at: number): string[] {
    return [
        [rankIn(decision, at), scoreAgainst(decision, at)].filter(Boolean).join(', '),
        decision.rule && `rule: ${decision.rule}`,
        decision.seed === null ? '' : `seed ${decision.seed}`,
        lossWords(decision.loss_before, decision.loss_after),
    ].filter(Boolean)
}

export function chapters(heads: Heads, life: LifeSpan[], layer: number, head: number): Chapter[] {
    const at = layer * heads.shape[1] + head
    return life
        .filter((span) => span.decision || span.restored || span.state !== ABSENT)
        .map((span) => {
            const { decision, restored } = span
            if (restored)
                return {
                    state: span.state,
                    step: span.first,
                    title: `${upper(stateNow(span.state))}: the run returned to ${stateOfCycle(restored.to_cycle)}`,
                    reason: span.reason,
                    facts: [],
                    repeats: false,
                }
            const cycle = decision?.cycle ? `, cycle ${decision.cycle}` : ''
            const by = decision?.strategy ? ` by ${decision.strategy}` : ''
            return {
                state: span.state,
                step: span.first,
                title: decision
                    ? `${VERBS[decision.kind]}${by}${cycle}${lifeName(span, layer, head)}`
                    : span.state === PRUNED
                      ? 'Pruned when the record begins'
                      : 'Active from the start',
                reason: span.reason,
                facts: decision ? factsOf(decision, at) : [],
                repeats: !!decision && rankIn(decision, at) !== '',
            }
        })
}

const upper = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)
const stateNow = (state: number): string =>
    state === PRUNED ? 'pruned again' : state === ABSENT ? 'not there' : 'active again'
const stateOfCycle = (cycle: number): string => (cycle ? `the end of cycle ${cycle}` : 'before any pruning')
/** A later life has a name of its own. */
const lifeName = (span: LifeSpan, layer: number, head: number): string =>
    span.decision?.kind === 'regrown' ? `, as ${headName(layer, head, span.incarnation)}` : ''

/** The state at a step, and how long it has been so. */
export function stateSentence(life: LifeSpan[], step: number): string {
    const span = life.findLast((one) => one.first <= step) ?? life[0]
    if (!span || (span.state === ABSENT && !span.restored)) return 'does not exist yet'
    if (span.restored)
        return `${stateNow(span.state)} since step ${whole(span.first)}, when the run returned to ${stateOfCycle(span.restored.to_cycle)}`
    if (!span.decision) return span.state === PRUNED ? 'pruned' : 'active, never pruned so far'
    const since = `since step ${whole(span.first)}`
    return span.state === PRUNED ? `pruned ${since}` : `active, ${stateWord(span.state)} ${since}`
}

export interface Reading {
    name: string
    label: string
    unit: string
    value: number
    rank: string
}
export function readings(criteria: Criterion[], snapshots: number[], states: Grid, at: number): Reading[] {
    return criteria.map((one, index) => {
        const scores = scoreGrid(one, snapshots[index] ?? -1)
        const there = scores && isThere(states[at] ?? ABSENT)
        const ranked = there ? ranksAmong(scores, states) : null
        return {
            name: one.name,
            label: one.label,
            unit: one.unit,
            value: scores?.[at] ?? NaN,
            rank: ranked ? rankWords(ranked.ranks[at] ?? -1, ranked.of) : '',
        }
    })
}

/** One head's line of a criterion: its score, or its rank share, at every measurement. */
export function scoreSpec(heads: Heads, criterion: Criterion, at: number, byRank: boolean): LineSpec {
    const shown = byRank ? rankedCriterion(heads, criterion) : criterion
    const cells = heads.shape[0] * heads.shape[1]
    const steps = criterion.steps.data
    const kept: number[] = []
    // What is measured of a pruned head is what it would do, on another scale: the readings say it, the line does not.
    for (let moment = 0; moment < steps.length; moment++)
        if (
            !Number.isNaN(shown.values.data[moment * cells + at]!) &&
            statesAt(heads, steps[moment]!)[at] !== PRUNED
        )
            kept.push(moment)
    const name = headName(Math.floor(at / heads.shape[1]), at % heads.shape[1])
    return {
        title: byRank ? `${criterion.label}, rank` : criterion.label,
        unit: byRank ? '0 lowest, 1 highest of the active' : criterion.unit,
        lines: [
            {
                name: `${criterion.name} of ${name}`,
                label: name,
                steps: kept.map((moment) => steps[moment]!),
                values: kept.map((moment) => shown.values.data[moment * cells + at]!),
                colour: '#0072B2',
                points: kept.length <= 60,
            },
        ],
        context: true,
        height: 140,
        empty: 'Not measured while this head was active.',
    }
}
