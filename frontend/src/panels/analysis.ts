/** What the analysis panel draws: maps of one round, or what changed since another one. */
import { placesOf } from '../canvas/cells'
import type { Cells } from '../canvas/grid'
import { CHANGE, domainOf, IMPORTANCE, reach } from '../model/colour'
import { statesAt } from '../model/heads'
import { ABSENT, ACTIVE, PRUNED, type Analysis, type Heads, type ScoreMap } from '../model/types'

export type Round = Analysis['rounds'][number]

export interface Shown {
    name: string
    label: string
    unit: string
    shape: [number, number]
    values: ArrayLike<number>
    cells: Cells
    low: number
    high: number
    difference: boolean
    /** There is a number anywhere, and so a domain. */
    measured: boolean
}

/** One domain per criterion over all rounds, so that the same colour is the same number in each. */
export function domains(rounds: Round[]): Map<string, [number, number]> {
    const found = new Map<string, [number, number]>()
    for (const round of rounds)
        for (const map of round.maps) {
            const own = domainOf(map.values.data)
            if (!own) continue
            const [low, high] = found.get(map.name) ?? own
            found.set(map.name, [Math.min(low, own[0]), Math.max(high, own[1])])
        }
    return found
}

/** States when a map was measured: what the map says of pruned heads, the history for the rest. */
export function statesOf(map: ScoreMap, heads: Heads | undefined, step: number): Int8Array {
    const same = heads?.shape[0] === map.values.shape[0] && heads?.shape[1] === map.values.shape[1]
    const history = heads && same ? statesAt(heads, step) : null
    return Int8Array.from(map.pruned.data, (gone, at) => {
        if (gone) return PRUNED
        const state = history?.[at] ?? ACTIVE
        // A pruning at the very step of the measurement came after it.
        return state === PRUNED || (state === ABSENT && !Number.isNaN(map.values.data[at]!)) ? ACTIVE : state
    })
}

export function shownMap(
    map: ScoreMap,
    round: Round,
    base: Round | null,
    domain: [number, number] | undefined,
    heads: Heads | undefined,
): Shown | null {
    const [rows = 0, columns = 0] = map.values.shape
    const common = {
        name: map.name,
        label: map.label,
        unit: map.unit,
        shape: [rows, columns] as [number, number],
    }
    const states = statesOf(map, heads, round.step)
    const before = base?.maps.find((one) => one.name === map.name)
    if (!base) {
        const [low, high] = domain ?? [0, 1]
        const cells = { ramp: IMPORTANCE, places: placesOf(map.values.data, low, high), states }
        return { ...common, values: map.values.data, cells, low, high, difference: false, measured: !!domain }
    }
    if (!before || before.values.data.length !== map.values.data.length) return null
    const values = Float64Array.from(map.values.data, (value, at) => value - before.values.data[at]!)
    const most = reach(values) || 1
    const cells = { ramp: CHANGE, places: placesOf(values, -most, most), states }
    return {
        ...common,
        values,
        cells,
        low: -most,
        high: most,
        difference: true,
        measured: !!domainOf(values),
    }
}
