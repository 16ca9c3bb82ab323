/** The entries of a chart's save menu. */
import type { Axis } from '../model/clock'
import type { Doc } from '../model/types'
import { csv, csvBlob, fileName, lineTable, save, type Saving } from './export'
import { lineOption } from './options'
import { PICTURE, pngOf, svgOf, titled } from './picture'
import { prepare } from './prepare'
import type { Line, LineSpec } from './spec'

interface Now {
    lines: Line[]
    window: [number, number]
    axis: Axis
    log: boolean
}

export function savings(spec: LineSpec, now: () => Now, doc: Partial<Doc>): Saving[] {
    const name = (ending: string) => fileName(`${doc.overview?.name ?? 'run'} ${spec.title}`, ending)
    const option = () => {
        const { lines, window, axis, log } = now()
        const { margin } = PICTURE
        const columns = PICTURE.width - margin.left - margin.right
        const height = PICTURE.height - margin.top - margin.bottom
        const prepared = prepare(spec, lines, { window, axis, columns: columns / 2, height, log })
        const look = { dark: false, width: columns, margin, timeline: doc.timeline ?? null }
        return titled(lineOption(spec, prepared, look), {
            title: spec.title,
            unit: spec.unit,
            xLabel: spec.xLabel ?? (axis.kind === 'time' ? 'time since start' : 'step'),
            names: lines.filter((line) => !line.faint).map((line) => line.label),
        })
    }
    return [
        { label: 'PNG picture', save: async () => save(name('png'), await pngOf(option())) },
        { label: 'SVG picture', save: () => save(name('svg'), svgOf(option())) },
        {
            label: 'CSV data',
            save: () => save(name('csv'), csvBlob(csv(lineTable(now().lines, spec.xLabel ?? 'step')))),
        },
    ]
}
