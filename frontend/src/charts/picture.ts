/** A chart on white paper, with title, legend and units: to save as PNG (twice the size) or SVG. */
import { init, FONT, type EChartsCoreOption } from './echarts'
import { inks } from '../model/theme.svelte'

export interface Titles {
    title: string
    unit: string
    xLabel: string
    /** Names of the series that the legend shows. */
    names: string[]
}

export function titled(option: EChartsCoreOption, { title, unit, xLabel, names }: Titles): EChartsCoreOption {
    const ink = inks(false)
    const text = { color: ink.ink, fontFamily: FONT, fontSize: 12 }
    const named = (axes: unknown, name: string, extra: object) => {
        const [first, ...others] = axes as object[]
        return [{ ...first, name, nameTextStyle: { ...text, color: ink.muted }, ...extra }, ...others]
    }
    return {
        ...option,
        backgroundColor: ink.paper,
        title: {
            text: unit ? `${title} (${unit})` : title,
            left: 12,
            top: 8,
            textStyle: { ...text, fontSize: 14 },
        },
        legend: { show: names.length > 1, data: names, left: 8, top: 30, type: 'scroll', textStyle: text },
        xAxis: named(option.xAxis, xLabel, { nameLocation: 'middle', nameGap: 26 }),
    }
}

export const PICTURE = { width: 960, height: 420, margin: { left: 64, right: 24, top: 64, bottom: 48 } }

export function svgOf(option: EChartsCoreOption): Blob {
    const { width, height } = PICTURE
    const chart = init(null, null, { renderer: 'svg', ssr: true, width, height })
    chart.setOption(option)
    const text = chart.renderToSVGString()
    chart.dispose()
    return new Blob([text], { type: 'image/svg+xml' })
}

export async function pngOf(option: EChartsCoreOption): Promise<Blob> {
    const { width, height } = PICTURE
    const chart = init(document.createElement('div'), null, {
        renderer: 'canvas',
        width,
        height,
        devicePixelRatio: 2,
    })
    chart.setOption(option)
    const canvas = chart.renderToCanvas({ pixelRatio: 2 })
    const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, 'image/png'))
    chart.dispose()
    if (!blob) throw new Error('the picture is too large')
    return blob
}
