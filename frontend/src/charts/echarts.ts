/** ECharts with what the page uses of it, and nothing else. */
import { BarChart, CustomChart, LineChart, ScatterChart } from 'echarts/charts'
import {
    AxisPointerComponent,
    DataZoomInsideComponent,
    GridComponent,
    MarkAreaComponent,
    MarkLineComponent,
    MarkPointComponent,
    TooltipComponent,
} from 'echarts/components'
import { init, use } from 'echarts/core'
import { CanvasRenderer, SVGRenderer } from 'echarts/renderers'

use([
    BarChart,
    CustomChart,
    LineChart,
    ScatterChart,
    AxisPointerComponent,
    DataZoomInsideComponent,
    GridComponent,
    MarkAreaComponent,
    MarkLineComponent,
    MarkPointComponent,
    TooltipComponent,
    CanvasRenderer,
    SVGRenderer,
])

export { init }
