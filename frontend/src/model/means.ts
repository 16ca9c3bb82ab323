/** Means of a curve of which points were left out: smoothing the extremes that are left would mislead. */
import type { Curve } from './types'

type Means = NonNullable<Curve['means']>
const MOST = 4000

/** The mean of every so many points as they come; twice as many points make one where there would be too many means. */
export class GrowingMeans {
    private width: number
    private steps: number[]
    private values: number[]
    private sum = 0
    private finite = 0
    private count = 0
    private middle = 0
    private made: Means | null = null

    constructor({ width, steps, values }: Means) {
        this.width = Math.max(Math.round(width), 1)
        this.steps = Array.from(steps.data)
        this.values = Array.from(values.data)
    }

    /** Of points that are all there. */
    static of(steps: ArrayLike<number>, values: ArrayLike<number>, width: number): GrowingMeans {
        const none = { data: new Float64Array(), shape: [0] }
        const means = new GrowingMeans({ width, steps: none, values: none })
        for (let at = 0; at < steps.length; at++) means.push(steps[at]!, values[at]!)
        return means
    }

    push(step: number, value: number): void {
        if (this.count === this.width >> 1) this.middle = step
        if (Number.isFinite(value)) {
            this.sum += value
            this.finite++
        }
        if (++this.count < this.width) return
        this.steps.push(this.middle)
        this.values.push(this.finite ? this.sum / this.finite : NaN)
        this.sum = this.finite = this.count = 0
        this.made = null
        if (this.steps.length > MOST) this.halve()
    }

    /** The same object until there is one mean more. */
    view(): Means {
        const packed = (data: number[]) => ({ data: Float64Array.from(data), shape: [data.length] })
        return (this.made ??= {
            width: this.width,
            steps: packed(this.steps),
            values: packed(this.values),
        })
    }

    private halve(): void {
        const kept = this.steps.length >> 1
        for (let at = 0; at < kept; at++) {
            const [a, b] = [this.values[2 * at]!, this.values[2 * at + 1]!]
            this.steps[at] = this.steps[2 * at + 1]!
            this.values[at] = Number.isNaN(a) ? b : Number.isNaN(b) ? a : (a + b) / 2
        }
        this.steps.length = this.values.length = kept
        this.width *= 2
    }
}
