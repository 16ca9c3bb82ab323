/** From the document's curves to lines on a chart: colours, and the smoothed line before the raw one. */
import { upperBound } from '../model/downsample'
import { whole } from '../model/format'
import type { Curve, Timeline } from '../model/types'
import { smoothed, type Smoothing } from '../model/smooth'
import type { Line, LineSpec } from './spec'

const COLOURS = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#6A3D9A', '#4D4D4D']
const STEPPED = ['sparsity', 'learning_rate']
const DASHES = [undefined, 'dashed', 'dotted'] as const
/** What is always drawn the same way, on whichever chart. */
const FIXED: Record<string, string> = {
    loss: '#0072B2',
    validation_loss: '#D55E00',
    control_loss: '#4D4D4D',
    perplexity: '#0072B2',
    validation_perplexity: '#D55E00',
    control_perplexity: '#4D4D4D',
}

Object.setPrototypeOf(FIXED, null) // a metric may be called like what every object inherits

const means = (curve: Curve) => (curve.total > curve.steps.data.length ? curve.means : null)

/** `jumps`: steps of the decisions, over which nothing is smoothed. */
export function linesOf(curves: Curve[], smoothing: Smoothing | null, jumps: number[] = []): Line[] {
    const densest = Math.max(0, ...curves.map((one) => one.values.data.length))
    return curves.flatMap((curve, at): Line[] => {
        const raw: Line = {
            name: curve.name,
            label: curve.label,
            steps: curve.steps.data,
            values: curve.values.data,
            total: curve.total,
            colour: FIXED[curve.name] ?? COLOURS[at % COLOURS.length]!,
        }
        const few = curve.steps.data.length <= 40
        if (STEPPED.includes(curve.name)) raw.stepped = true
        const dash = DASHES[Math.floor(at / COLOURS.length) % DASHES.length]
        if (dash) raw.dash = dash
        const count = curve.values.data.length
        // Few points among many (a validation now and then) are means already.
        const width = smoothing ? Math.min(smoothing.width, Math.floor(count / 8)) : 0
        if (!smoothing || raw.stepped || width < 3 || count < densest / 4) return [{ ...raw, points: few }]
        // Where points were left out, those that are here are the extreme ones: their means came with them.
        const made = means(curve)
        const { steps, values } = made ?? curve
        const wide = made ? Math.round(smoothing.width / made.width) : width
        // Nothing happens to the control when heads go or come.
        const own = curve.name.startsWith('control_') ? [] : jumps
        const cuts = own.map((step) => upperBound(steps.data, step))
        const smooth = wide < 2 ? values.data : smoothed(values.data, { ...smoothing, width: wide }, cuts)
        return [
            { ...raw, faint: true },
            {
                ...raw,
                name: '',
                derived: true,
                label: `${curve.label}, smoothed`,
                short: curve.label,
                steps: steps.data,
                values: smooth,
                total: undefined,
            },
        ]
    })
}

/** The curves by the chart they belong to, in order. */
export function grouped(curves: Curve[]): { title: string; unit: string; curves: Curve[] }[] {
    const groups = new Map<string, Curve[]>()
    for (const one of curves) {
        const known = groups.get(one.group)
        if (known) known.push(one)
        else groups.set(one.group, [one])
    }
    return [...groups].map(([title, members]) => ({ title, unit: members[0]!.unit, curves: members }))
}

/** Steps at which heads went or came. */
export const jumpsOf = (timeline: Timeline | undefined): number[] =>
    (timeline?.marks ?? []).filter((mark) => mark.kind !== 'stable').map((mark) => mark.step)

/** A chart of curves that belong together, linked to all others of the page. */
export function curveSpec(
    { title, unit, curves }: { title: string; unit: string; curves: Curve[] },
    smoothing: Smoothing | null,
    jumps: number[],
): LineSpec {
    const lines = linesOf(curves, smoothing, jumps)
    const spec: LineSpec = { title, unit, lines, context: true, linked: true }
    if (unit.startsWith('share')) spec.percent = true
    if (smoothing && lines.some((line) => line.faint)) {
        const widest = Math.max(...curves.map((one) => means(one)?.width ?? 0), smoothing.width)
        spec.note = `mean of up to ${whole(widest)}, raw behind`
    }
    return spec
}
