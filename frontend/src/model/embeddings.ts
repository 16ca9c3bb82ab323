/** Where points of an embedding space lie at each look, how far they went, and what of them is shown. */
import { tokenText } from './attention'
import { plain, significant } from './format'
import type { Floats, PointMover, Space, SpaceDrift } from './types'

export type Pair = [number, number]

/** x, y of every point at one look at one layer, NaN where it was not recorded. */
export function coordinatesAt(space: Space, moment: number, layer: number): ArrayLike<number> {
    const { data, shape } = space.coordinates
    const [moments = 0, layers = 0, points = 0] = shape
    if (moment < 0 || moment >= moments || layer >= layers) return new Float32Array()
    const from = (moment * layers + layer) * points * 2
    return data.subarray(from, from + points * 2)
}

export const pointCount = (space: Space): number => space.coordinates.shape[2] ?? 0

/** A point's places from the first look to the one at `moment`; looks without it are passed over. */
export function trailOf(space: Space, layer: number, point: number, moment: number): Pair[] {
    const found: Pair[] = []
    for (let at = 0; at <= moment; at++) {
        const places = coordinatesAt(space, at, layer)
        const [x, y] = [places[2 * point], places[2 * point + 1]]
        if (x !== undefined && y !== undefined && Number.isFinite(x) && Number.isFinite(y)) found.push([x, y])
    }
    return found
}

export interface Frame {
    x: Pair
    y: Pair
}
const quantile = (ordered: Float32Array, share: number): number =>
    ordered[Math.round(share * (ordered.length - 1))] ?? 0

/** What encloses all points at every look at a layer, so that it stays while the cursor moves; `middle`: 98 % of them. */
export function frameOf(space: Space, layer: number, middle: boolean): Frame | null {
    const axes = [0, 1].map((axis): Pair | null => {
        const values: number[] = []
        for (let at = 0; at < space.steps.data.length; at++) {
            const places = coordinatesAt(space, at, layer)
            for (let one = axis; one < places.length; one += 2)
                if (Number.isFinite(places[one]!)) values.push(places[one]!)
        }
        const ordered = Float32Array.from(values).sort()
        if (!ordered.length) return null
        return middle ? [quantile(ordered, 0.01), quantile(ordered, 0.99)] : [ordered[0]!, ordered.at(-1)!]
    })
    return axes[0] && axes[1] ? { x: axes[0], y: axes[1] } : null
}

const wide = ([low, high]: Pair): number => high - low
/** A few far points would press all others together. */
export function hasOutliers(space: Space, layer: number): boolean {
    const [all, middle] = [frameOf(space, layer, false), frameOf(space, layer, true)]
    if (!all || !middle) return false
    return (['x', 'y'] as const).some(
        (axis) => wide(middle[axis]) > 0 && wide(all[axis]) > 2.5 * wide(middle[axis]),
    )
}

/** The frame widened so that a unit is as long across as it is up in `width` × `height`, with some room around. */
export function evenFrame(frame: Frame, width: number, height: number): Frame {
    const unit = Math.max(wide(frame.x) / Math.max(width, 1), wide(frame.y) / Math.max(height, 1)) * 1.08 || 1
    const around = ([low, high]: Pair, size: number): Pair => {
        const centre = (low + high) / 2
        return [centre - (unit * size) / 2, centre + (unit * size) / 2]
    }
    return { x: around(frame.x, width), y: around(frame.y, height) }
}

export interface Bin {
    x: number
    y: number
    count: number
}
/** Points (in pixels) counted in hexagons with sides of `radius`, each with its centre. */
export function hexagons(points: Iterable<Pair>, radius: number): Bin[] {
    const [across, down] = [radius * Math.sqrt(3), radius * 1.5]
    const found = new Map<string, Bin>()
    for (const [x, y] of points) {
        if (!Number.isFinite(x) || !Number.isFinite(y)) continue
        const row = Math.round(y / down)
        const column = Math.round(x / across - (row & 1) / 2)
        let [i, j] = [column, row]
        // Near a slanted side the hexagon of the row beside may be nearer.
        let best = Infinity
        for (const r of [row - 1, row, row + 1])
            for (const c of [column - 1, column, column + 1]) {
                const away = (x - (c + (r & 1) / 2) * across) ** 2 + (y - r * down) ** 2
                if (away < best) [best, i, j] = [away, c, r]
            }
        const key = `${i} ${j}`
        const bin = found.get(key)
        if (bin) bin.count++
        else found.set(key, { x: (i + (j & 1) / 2) * across, y: j * down, count: 1 })
    }
    return [...found.values()]
}

/** The point nearest to a place in pixels, at most `most` away; −1 for none. */
export function nearest(pixels: Pair[], x: number, y: number, most = Infinity): number {
    let [found, best] = [-1, most * most]
    pixels.forEach(([px, py], at) => {
        const away = (px - x) ** 2 + (py - y) ** 2
        if (away <= best) [found, best] = [at, away]
    })
    return found
}

/** The next point in a direction: near, and not far to the side. */
export function towards(pixels: Pair[], from: number, dx: number, dy: number): number {
    const start = pixels[from]
    if (!start) return pixels.findIndex(([x, y]) => Number.isFinite(x + y))
    let [found, best] = [from, Infinity]
    pixels.forEach(([x, y], at) => {
        const ahead = (x - start[0]) * dx + (y - start[1]) * dy
        const aside = Math.abs((x - start[0]) * dy) + Math.abs((y - start[1]) * dx)
        const cost = ahead + 2 * aside
        if (at !== from && ahead > 0.5 && cost < best) [found, best] = [at, cost]
    })
    return found
}

export const momentName = (space: Space, moment: number): string => {
    const cycle = space.cycles.data[moment] ?? 0
    if (cycle) return `cycle ${cycle}`
    return moment === 0 ? 'baseline' : `step ${space.steps.data[moment]}`
}
export const pointName = (space: Space, point: number): string =>
    space.labels[point] === undefined ? `point ${point}` : tokenText(space.labels[point]) || '(empty)'
export const groupName = (space: Space, point: number): string =>
    space.group_names[space.groups.data[point] ?? -1] ?? ''

export const moversAt = (space: Space, layer: number): PointMover[] =>
    space.movers.filter((one) => one.layer === layer).sort((a, b) => b.moved - a.moved)

// ---- drift, in numbers

export type MeasureName = 'linear_cka' | 'procrustes_residual' | 'neighbour_overlap'
export interface Measure {
    name: MeasureName
    label: string
    says: (space: Space) => string
    /** What it is where nothing moved. */
    same: number
}
export const MEASURES: Measure[] = [
    {
        name: 'linear_cka',
        label: 'Linear CKA, debiased',
        says: () => 'likeness of all distances: 1 the same, 0 unrelated',
        same: 1,
    },
    {
        name: 'procrustes_residual',
        label: 'Procrustes residual',
        says: (space) =>
            `what the best rotation leaves: 0 the same, about ${significant(meanOf(space.chance_residual.data), 2)} for shuffled points`,
        same: 0,
    },
    {
        name: 'neighbour_overlap',
        label: 'Neighbours kept',
        says: (space) =>
            `of the nearest ${space.neighbours}: 1 all, about ${significant(space.chance_overlap, 2)} by chance`,
        same: 1,
    },
]

export function meanOf(values: ArrayLike<number>): number {
    let [sum, count] = [0, 0]
    for (let at = 0; at < values.length; at++)
        if (Number.isFinite(values[at]!)) {
            sum += values[at]!
            count++
        }
    return count ? sum / count : NaN
}

export interface DriftRow {
    layer: string
    cells: { value: number; control: number | null }[]
}
/** One measure, a row a layer and a column a look; the last row is the mean over layers. */
export function driftRows(space: Space, name: MeasureName): DriftRow[] {
    const own = space.drift[0]
    const control = space.drift.find((one) => one.model === 'control')
    const layers = space.layers.length
    const moments = space.steps.data.length
    const at = (from: SpaceDrift | undefined, moment: number, layer: number): number =>
        from?.[name].data[moment * layers + layer] ?? NaN
    const column = (values: Floats, moment: number) =>
        values.data.subarray(moment * layers, (moment + 1) * layers)
    const cell = (value: number, beside: number | null) => ({
        value,
        control: beside === null || Number.isNaN(beside) ? null : beside,
    })
    const looks = Array.from({ length: moments }, (_, moment) => moment)
    const rows = space.layers.map((layer, index) => ({
        layer,
        cells: looks.map((moment) =>
            cell(at(own, moment, index), control ? at(control, moment, index) : null),
        ),
    }))
    if (layers < 2 || !own) return rows
    const mean = looks.map((moment) =>
        cell(meanOf(column(own[name], moment)), control ? meanOf(column(control[name], moment)) : null),
    )
    return [...rows, { layer: 'mean', cells: mean }]
}

/** Less than this is no drift worth a colour. */
const LEAST = 0.01
/** The colours' far end, the same for every look: the largest drift of the run. */
export function driftDomain(space: Space, { name, same }: Measure): number {
    let far = same
    for (const { [name]: values } of space.drift)
        for (const value of values.data)
            if (Number.isFinite(value) && Math.abs(value - same) > Math.abs(far - same)) far = value
    return Math.abs(far - same) < LEAST ? same + (same ? -LEAST : LEAST) : far
}

/** The one sentence that the numbers come to. */
export function driftHeadline(space: Space): string {
    const last = space.steps.data.length - 1
    if (last < 1) return 'One look so far: drift appears with the second one.'
    const rows = driftRows(space, 'linear_cka')
    const layers = rows.filter((row) => row.layer !== 'mean' && Number.isFinite(row.cells[last]!.value))
    const least = layers.reduce<DriftRow | null>(
        (one, row) => (one && one.cells[last]!.value <= row.cells[last]!.value ? one : row),
        null,
    )
    if (!least) return 'No look after the baseline could be compared with it.'
    const { value, control } = least.cells[last]!
    const which = momentName(space, last)
    const beside =
        control === null
            ? ''
            : `; the equally trained control is at ${plain(control)}${layers.length > 1 ? ' there' : ''}`
    return layers.length > 1
        ? `After ${which} the space differs most from the baseline’s in ${least.layer}: CKA ${plain(value)}${beside}.`
        : `After ${which} the space is at CKA ${plain(value)} to the baseline’s${beside}.`
}

/** All numbers, a row a look and layer: for the CSV. */
export function driftTable(space: Space): (string | number)[][] {
    const rows: (string | number)[][] = [
        ['cycle', 'step', 'layer', 'model', 'linear_cka', 'procrustes_residual', 'neighbour_overlap'],
    ]
    for (const drift of space.drift)
        for (let moment = 0; moment < space.steps.data.length; moment++)
            space.layers.forEach((layer, index) => {
                const at = moment * space.layers.length + index
                rows.push([
                    space.cycles.data[moment]!,
                    space.steps.data[moment]!,
                    layer,
                    drift.model,
                    drift.linear_cka.data[at]!,
                    drift.procrustes_residual.data[at]!,
                    drift.neighbour_overlap.data[at]!,
                ])
            })
    return rows
}
