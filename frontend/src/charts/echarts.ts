/** ECharts with what the page uses of it, and nothing else. */
import { BarChart, CustomChart, LineChart, ScatterChart } from 'echarts/charts'
import {
    GridComponent,
    LegendScrollComponent,
    MarkAreaComponent,
    MarkLineComponent,
    TitleComponent,
} from 'echarts/components'
import { init, use, type EChartsCoreOption, type EChartsType } from 'echarts/core'
import { CanvasRenderer, SVGRenderer } from 'echarts/renderers'

use([
    BarChart,
    CustomChart,
    LineChart,
    ScatterChart,
    GridComponent,
    LegendScrollComponent,
    MarkAreaComponent,
    MarkLineComponent,
    TitleComponent,
    CanvasRenderer,
    SVGRenderer,
])

export { init }
export type { EChartsCoreOption, EChartsType }
export const FONT =
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', Arial, sans-serif"
