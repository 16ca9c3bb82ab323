/** How heads are coloured, the same in the grid, the lifelines and the drawer. */
import type { RunModel } from '../model/run.svelte'
import { preferred } from '../model/heads'
import type { Criterion, Heads } from '../model/types'

export class Look {
    criterion = $state('')
    byRank = $state(false)
    /** The heads of the last decision are pointed out. */
    mark = $state(false)

    of(heads: Heads | undefined): Criterion | null {
        const all = heads?.criteria ?? []
        return (
            all.find((one) => one.name === this.criterion) ??
            all.find((one) => one.name === preferred(all)) ??
            null
        )
    }
}

const looks = new WeakMap<RunModel, Look>()

export function lookOf(model: RunModel): Look {
    let look = looks.get(model)
    if (!look) looks.set(model, (look = new Look()))
    return look
}
