/** The entries of a chart's save menu. */
import type { Axis } from '../model/clock'
import type { Doc } from '../model/types'
import type { EChartsCoreOption } from './echarts'
import { csv, csvBlob, fileName, lineTable, save, type Cell, type Saving } from './export'
import { lineOption } from './options'
import { PICTURE, pngOf, svgOf, titled } from './picture'
import { prepare } from './prepare'
import type { Line, LineSpec } from './spec'
import { axisWord } from './words'

interface Now {
    lines: Line[]
    window: [number, number]
    axis: Axis
    log: boolean
}

/** As a picture of either kind, and as a table; each is made when it is asked for. */
export function savingsOf(
    title: () => string,
    option: () => EChartsCoreOption,
    rows: () => Cell[][],
): Saving[] {
    const name = (ending: string) => fileName(title(), ending)
    return [
        { label: 'PNG picture', save: async () => save(name('png'), await pngOf(option())) },
        { label: 'SVG picture', save: () => save(name('svg'), svgOf(option())) },
        { label: 'CSV data', save: () => save(name('csv'), csvBlob(csv(rows()))) },
    ]
}

export function savings(spec: LineSpec, now: () => Now, doc: Partial<Doc>): Saving[] {
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
            xLabel: axisWord(spec, axis),
            names: lines.filter((line) => !line.faint).map((line) => line.label),
        })
    }
    return savingsOf(
        () => `${doc.overview?.name ?? 'run'} ${spec.title}`,
        option,
        () => lineTable(now().lines, spec.own?.label ?? 'step'),
    )
}
