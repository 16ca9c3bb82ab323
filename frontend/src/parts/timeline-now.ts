/** The timeline's loss also while a phase goes on: its section is made again only when something happens. */
import { meanOf } from '../model/recovery'
import type { Curves, Series, Timeline } from '../model/types'

const NAMES = ['loss', 'validation_loss']
const lastOf = (one: Series | undefined): number => one?.steps.data.at(-1) ?? -Infinity

/** With the points that arrived since the timeline was made; the same object where there are none. */
export function timelineNow(timeline: Timeline, curves: Curves | undefined): Timeline {
    const newer = new Map<string, Series>()
    for (const name of NAMES) {
        const now = curves?.series.find((one) => one.name === name)
        const known = timeline.series.find((one) => one.name === name)
        if (now && lastOf(now) > lastOf(known)) newer.set(name, now)
    }
    if (!newer.size) return timeline
    const old = timeline.series.filter((one) => !newer.has(one.name))
    return {
        ...timeline,
        series: [...newer.values(), ...old],
        smooth: newer.has('loss') ? smoothNow(timeline, curves!) : timeline.smooth,
    }
}

/** The pieces before the last decision as they are, and the one that grows made again. */
function smoothNow({ marks, smooth }: Timeline, curves: Curves): Series[] {
    const jumps = marks.filter((mark) => mark.kind !== 'stable').map((mark) => mark.step)
    const from = jumps.length ? Math.max(...jumps) + 1 : -Infinity
    const before = smooth.filter((piece) => lastOf(piece) < from)
    const growing = meanOf(curves, 'loss', from)?.series
    return growing ? [...before, growing] : before
}
