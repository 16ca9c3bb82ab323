/** What the growth panel says and draws of heads that came back, were added, or stay out. */
import { CYCLE, CYCLES_SINCE } from '../charts/axes'
import type { BarSpec, Line, LineSpec } from '../charts/spec'
import { acrossCycles } from '../model/cycles'
import { between, percent, plural, signed, significant, whole } from '../model/format'
import { ADDED, OTHER_PHASE, REGROWN } from '../model/palette'
import type { Column } from '../model/table'
import type { Growth, GrowthRefused, GrowthReturn, GrowthRound } from '../model/types'

export type Return = GrowthReturn

export function growthHeadline({ returns: all, refused_total: refused }: Growth): string {
    if (!all.length)
        return `No head has come back: of ${whole(refused)} considered, none gave enough evidence.`
    const count = (origin: Return['origin']) => all.filter((one) => one.origin === origin).length
    const [back, added] = [count('regrown'), count('added')]
    const again = all.filter((one) => one.pruned_again_step !== null).length
    const parts = [
        back ? `${whole(back)} ${back === 1 ? 'head' : 'heads'} grew back` : '',
        added ? `${whole(added)} ${added === 1 ? 'was' : 'were'} added` : '',
    ].filter(Boolean)
    const since = again
        ? `${whole(again)} of them ${again === 1 ? 'was' : 'were'} pruned again`
        : all.length === 1
          ? 'it is still there'
          : 'all of them are still there'
    return `${parts.join(', ')}; ${since}.`
}

interface Evidence {
    score: number | null
    low: number | null
    high: number | null
    gain: number | null
    gain_low: number | null
    gain_high: number | null
}
const withInterval = (value: number | null, low: number | null, high: number | null): string =>
    value === null
        ? ''
        : low === null || high === null
          ? significant(value)
          : `${significant(value)} (${significant(low)} to ${significant(high)})`

/** The figures that decided, where they were recorded as figures. */
export const evidenceOf = (one: Evidence): string =>
    [
        one.gain === null ? '' : `gain ${withInterval(one.gain, one.gain_low, one.gain_high)}`,
        one.score === null ? '' : `benefit ${withInterval(one.score, one.low, one.high)}`,
    ]
        .filter(Boolean)
        .join(' · ')

/** Whether the reason already tells the figures. */
const said = ({ reason, score }: Return): boolean => score !== null && reason.includes(significant(score))

/** How a life stood at its last measurement. */
export function standing(view: Growth, one: Return): string {
    const found = view.standings.find((each) => each.name === one.name && each.came_step === one.step)
    const last = (found?.steps.data.length ?? 0) - 1
    if (!found || last < 0) return ''
    const [ratio, rank] = [found.ratio.data[last]!, found.rank.data[last]!]
    const more = Number.isFinite(rank) ? `, above ${percent(rank)} of the active heads` : ''
    return Number.isFinite(ratio)
        ? `${significant(ratio, 2)}× the median survivor${more} at step ${whole(found.steps.data[last])}`
        : ''
}

export function returned(view: Growth, last: number) {
    return view.returns.map((one) => {
        const until = one.pruned_again_step
        const lived =
            until === null
                ? `active for ${plural(Math.max(last - one.step, 0), 'step')} so far`
                : `pruned again at step ${whole(until)}, after ${plural(until - one.step, 'step')}`
        const { loss_before: before, loss_after: after } = one
        return {
            ...one,
            absent: one.pruned_step === null ? '–' : plural(one.step - one.pruned_step, 'step'),
            evidence: said(one) ? '' : [one.strategy, evidenceOf(one)].filter(Boolean).join(' · '),
            loss:
                before === null || after === null
                    ? ''
                    : `${significant(before, 4)} → ${significant(after, 4)} (${signed(after - before)})`,
            since: lived,
            standing: standing(view, one),
        }
    })
}

const figure = (
    key: string,
    label: string,
    title: string,
    of: (one: GrowthRound) => number | null,
    write: (value: number | null) => string = whole,
): Column<GrowthRound> => ({ key, label, title, number: true, value: of, text: (one) => write(of(one)) })
const rounds: Column<GrowthRound>[] = [
    { key: 'cycle', label: 'Cycle', value: (one) => one.cycle, text: (one) => `Cycle ${one.cycle}` },
    {
        ...figure('pruned', 'Pruned', 'Heads that went in this cycle', (one) => one.pruned),
        note: (one) => (one.gone_again ? `${whole(one.gone_again)} had come before` : ''),
        more: [['Pruned that had come before', (one) => one.gone_again]],
    },
    figure('regrown', 'Came back', 'Heads that came back in this cycle', (one) => one.regrown),
    figure('added', 'Added', 'New heads of this cycle', (one) => one.added),
    figure('active', 'Active', 'Heads that are there afterwards', (one) => one.active),
    figure(
        'churn',
        'Churn',
        'All these moves as a share of the heads that there are',
        (one) => one.churn,
        percent,
    ),
    figure(
        'considered',
        'Considered',
        'Pruned heads that were weighed; none in the cycle that pruned it',
        (one) => one.considered || null,
    ),
    figure('tried', 'Tried', 'Of these, switched on to see whether the loss falls', (one) => one.tried),
    figure('allowed', 'Allowed', 'How many could come back at most', (one) => one.allowed),
    figure(
        'worth',
        'Gain needed',
        'What the weakest active heads are worth: loss that it costs to switch one off, nats',
        (one) => one.worth,
        significant,
    ),
]
export const roundColumns = (all: GrowthRound[]): Column<GrowthRound>[] =>
    rounds.filter(({ key, value }) => key === 'cycle' || all.some((one) => value(one)))

export const refusedColumns: Column<GrowthRefused>[] = [
    { key: 'head', label: 'Head', value: (one) => one.name },
    { key: 'cycle', label: 'Cycle', number: true, value: (one) => one.cycle },
    {
        key: 'score',
        label: 'Benefit',
        title: 'How fast the loss falls as the head’s gate opens, nats',
        number: true,
        value: (one) => one.score,
        text: (one) => significant(one.score),
        note: (one) => between(one.low, one.high, 4, true),
        more: [
            ['Benefit, low', (one) => one.low],
            ['Benefit, high', (one) => one.high],
        ],
    },
    {
        key: 'gain',
        label: 'Gain when on',
        title: 'How far the validation loss falls with the head switched on, nats',
        number: true,
        value: (one) => one.gain,
        text: (one) => (one.gain === null ? 'not tried' : significant(one.gain)),
        note: (one) => between(one.gain_low, one.gain_high, 4, true),
        more: [
            ['Gain, low', (one) => one.gain_low],
            ['Gain, high', (one) => one.gain_high],
        ],
    },
    { key: 'reason', label: 'Why it stays out', value: (one) => one.reason, foreign: true },
]

/** The heads that one cycle switched on to try, most gain first, against what they had to reach. */
export function triedSpec(view: Growth, cycle: number, most = 16): BarSpec | null {
    const round = view.rounds.findLast((one) => one.cycle === cycle)
    const came = view.returns.filter((one) => one.cycle === cycle && one.origin === 'regrown')
    const out = view.refused.filter((one) => one.cycle === cycle)
    const tried = [
        ...came.map((one) => ({ one, colour: REGROWN })),
        ...out.map((one) => ({ one, colour: OTHER_PHASE })),
    ].filter(({ one }) => one.gain !== null)
    if (!tried.length) return null
    tried.sort((a, b) => b.one.gain! - a.one.gain!)
    const bar = round?.worth ?? null
    return {
        title: `What was tried in cycle ${cycle}`,
        unit: `fall of the validation loss with the head on, nats${tried.length > most ? `; the best ${most} of ${tried.length}` : ''}`,
        bars: tried.slice(0, most).map(({ one, colour }) => ({
            label: one.name,
            value: one.gain!,
            low: one.gain_low,
            high: one.gain_high,
            colour,
        })),
        ...(bar !== null && { reference: { value: bar, label: 'what the weakest active heads are worth' } }),
        format: (value) => significant(value),
    }
}

const ORIGINS: Record<string, { colour: string; label: string }> = {
    regrown: { colour: REGROWN, label: 'came back' },
    added: { colour: ADDED, label: 'added' },
}

/** Of the heads that came so many cycles before the end or earlier: how many are still there so many cycles later. */
export function survivalSpec(view: Growth): LineSpec {
    const lines = view.survival.map((one): Line => ({
        name: one.origin,
        label: `${ORIGINS[one.origin]?.label ?? one.origin} (${plural(one.at_risk.data[0] ?? 0, 'head')})`,
        colour: ORIGINS[one.origin]?.colour ?? OTHER_PHASE,
        steps: one.cycles.data,
        values: Float64Array.from(one.at_risk.data, (count, at) => one.alive.data[at]! / count),
        points: true,
    }))
    const last = Math.max(1, ...view.survival.map((one) => one.cycles.data.at(-1) ?? 0))
    return {
        title: 'Survival',
        unit: 'share still active',
        lines,
        references: [{ value: 0, label: '' }],
        domain: [0, last + 0.1],
        own: CYCLES_SINCE,
        percent: true,
        height: 200,
        note: 'of those that came that long ago',
        empty: 'No head came yet.',
    }
}

/** Importance of every returned or added head as a multiple of the median head that never went. */
export function standingSpec(view: Growth, chosen: { layer: number; head: number } | null): LineSpec {
    const lines = view.standings
        .filter((one) => one.since.data.length)
        .map((one): Line => {
            const mine = chosen?.layer === one.layer && chosen.head === one.head
            return {
                name: `${one.name} ${one.came_step}`,
                label: one.name,
                colour: ORIGINS[one.origin]?.colour ?? OTHER_PHASE,
                steps: one.since.data,
                values: one.ratio.data,
                points: true,
                width: mine ? 3 : 1,
                ...(mine ? {} : { dash: 'dotted' as const }),
            }
        })
    const shown = lines.length > 8 ? lines.filter((line) => line.width === 3) : lines
    const median: Line[] = view.typical
        ? [
              {
                  name: 'median',
                  label: `median of ${plural(Math.max(...view.typical.heads.data), 'head')}`,
                  colour: '#4D4D4D',
                  steps: view.typical.since.data,
                  values: view.typical.ratio.data,
                  points: true,
                  width: 2,
              },
          ]
        : []
    const last = Math.max(1, ...view.standings.map((one) => one.since.data.at(-1) ?? 0))
    return {
        title: 'Against the median survivor',
        unit: `${view.criterion || 'importance'}, multiples`,
        lines: [...median, ...shown],
        references: [{ value: 1, label: 'median head that never went' }],
        domain: [0, last + 0.1],
        own: CYCLES_SINCE,
        height: 200,
        ...(lines.length > 8 && { note: 'select a head to see its own line' }),
        empty: 'Not measured since: the next analysis tells.',
    }
}

/** How many heads went, came back and were added in each cycle. */
export function movesSpec(view: Growth): LineSpec {
    const of = (label: string, colour: string, value: (one: GrowthRound) => number) =>
        acrossCycles(view.rounds, label, colour, (one) => ({ value: value(one), low: null, high: null }))
    const last = view.rounds.at(-1)?.cycle ?? 1
    return {
        title: 'Moves per cycle',
        unit: 'heads',
        lines: [
            of('pruned', '#B34700', (one) => one.pruned),
            of('came back', '#00664B', (one) => one.regrown),
            of('added', ADDED, (one) => one.added),
        ].filter((one) => one !== null),
        domain: [Math.min(view.rounds[0]?.cycle ?? 1, 1) - 0.5, last + 0.5],
        own: CYCLE,
        height: 200,
    }
}
