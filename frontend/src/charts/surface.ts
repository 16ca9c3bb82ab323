/** One ECharts drawing: made in its element when there is first something to draw, and as large as it is told. */
import { init, type EChartsType } from './echarts'

export class Surface {
    #chart: EChartsType | undefined

    /** Null until it was drawn for the first time. */
    get chart(): EChartsType | null {
        return this.#chart ?? null
    }
    sized(element: HTMLElement, size: { width: number; height: number }): EChartsType {
        const chart = (this.#chart ??= init(element, null, size))
        if (chart.getWidth() !== size.width || chart.getHeight() !== size.height) chart.resize(size)
        return chart
    }
    dispose(): void {
        this.#chart?.dispose()
    }
}
