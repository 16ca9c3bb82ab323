/** The warm-up as a chart, also while it goes on. */
import type { Line, LineSpec } from '../charts/spec'
import { plain } from './format'
import { MARKS, MODELS, phaseColour } from './palette'
import { meanOf, partOf } from './recovery'
import type { Curves, Series, Warmup } from './types'

/** The view with the points that arrived since it was made. */
export function warmupNow(view: Warmup, curves: Curves | undefined, last: number): Warmup {
    const first = view.raw ? view.first : -Infinity
    const raw = partOf(curves, 'loss', first)
    if (!raw) return view
    const mean = meanOf(curves, 'loss', first)
    return {
        ...view,
        raw,
        smooth: mean?.series ?? null,
        validation: partOf(curves, 'validation_loss', first),
        window: mean?.width ?? 0,
        first: raw.steps.data[0]!,
        last: Math.max(last, raw.steps.data[0]! + 1),
        end: view.end || 'still running',
        empty: null,
    }
}

export function warmupSpec(view: Warmup): LineSpec | null {
    if (!view.raw) return null
    const line = (one: Series, label: string, colour: string, more: Partial<Line> = {}): Line => ({
        name: one.name,
        label,
        steps: one.steps.data,
        values: one.values.data,
        total: one.total,
        colour,
        ...more,
    })
    const colour = phaseColour('warmup')
    const lines = [line(view.raw, 'training loss', colour, { faint: view.smooth !== null })]
    if (view.smooth)
        lines.push(
            line(view.smooth, `training loss, mean of ${plain(view.window, 0)}`, colour, { derived: true }),
        )
    if (view.validation)
        lines.push(
            line(view.validation, 'validation loss', MODELS.pruned!, {
                points: view.validation.steps.data.length <= 60,
            }),
        )
    return {
        title: 'Loss before any pruning',
        unit: 'nats per token',
        lines,
        domain: [view.first, Math.max(view.last, view.first + 1)],
        shades: view.stable.map((one) => ({
            first: one.first,
            last: one.step,
            label: 'called stable',
            colour: MARKS.stable!,
        })),
        height: 320,
    }
}
