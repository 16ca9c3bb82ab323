/** A curve that grows while one looks: points are appended in place, and thinned in place when there are too many. */
import { keptIndices } from './downsample'
import { GrowingMeans } from './means'
import type { Curve, TypedArray } from './types'

const MOST = 24_000 // points of one curve on the page; half as many are left by a thinning
const MEANS = 2000 // of a curve when it is thinned for the first time

export class GrowingCurve {
    private steps: Float64Array
    private values: Float64Array
    private length: number
    private total: number
    private means: GrowingMeans | undefined

    constructor(private readonly start: Curve) {
        this.length = start.steps.data.length
        this.total = start.total
        if (start.means) this.means = new GrowingMeans(start.means)
        this.steps = widened(start.steps.data, 2 * this.length + 1024)
        this.values = widened(start.values.data, 2 * this.length + 1024)
    }

    /** Step and value of the last point. */
    get end(): [number, number] {
        const at = this.length - 1
        return at < 0 ? [-Infinity, NaN] : [this.steps[at]!, this.values[at]!]
    }

    push(step: number, value: number): void {
        if (this.length === this.steps.length) {
            if (this.length >= MOST) this.thin()
            else {
                this.steps = widened(this.steps, 2 * this.length)
                this.values = widened(this.values, 2 * this.length)
            }
        }
        this.steps[this.length] = step
        this.values[this.length++] = value
        this.total++
        this.means?.push(step, value)
    }

    /** The curve as the page's data has it: views of the same memory, nothing is copied. */
    view(): Curve {
        return {
            ...this.start,
            total: this.total,
            ...(this.means && { means: this.means.view() }),
            steps: { data: this.steps.subarray(0, this.length), shape: [this.length] },
            values: { data: this.values.subarray(0, this.length), shape: [this.length] },
        }
    }

    private thin(): void {
        const { steps, values, length } = this
        const whole = [steps.subarray(0, length), values.subarray(0, length)] as const
        this.means ??= GrowingMeans.of(...whole, Math.ceil(length / MEANS))
        const kept = keptIndices(...whole, steps[0]!, steps[length - 1]!, length / 10)
        // Earlier views keep the memory that they were given: a chart may be drawing from it.
        this.steps = new Float64Array(steps.length)
        this.values = new Float64Array(values.length)
        kept.forEach((from, at) => {
            this.steps[at] = steps[from]!
            this.values[at] = values[from]!
        })
        this.length = kept.length
    }
}

function widened(data: TypedArray, size: number): Float64Array {
    const wide = new Float64Array(Math.max(size, data.length))
    wide.set(data)
    return wide
}
