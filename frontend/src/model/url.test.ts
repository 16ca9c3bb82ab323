import { expect, it } from 'vitest'
import { parsePlace, placeHash } from './url'

it('a place and its hash lead to each other', () => {
    const place = {
        step: 1200,
        head: { layer: 3, head: 7 },
        panel: 'fine-tuning',
        zoom: [100, 900] as [number, number],
    }
    expect(placeHash(place)).toBe('#panel=fine-tuning&step=1200&head=3.7&zoom=100-900')
    expect(parsePlace(placeHash(place))).toEqual(place)
})

it('nothing special needs no hash, and nonsense is no place', () => {
    const nowhere = { step: null, head: null, panel: null, zoom: null }
    expect(placeHash(nowhere)).toBe('')
    for (const hash of [
        '',
        '#',
        '#step=-3&head=a.b&panel=<b>&zoom=9-1',
        '#head=3&zoom=5',
        '#step=1e9',
        '#%%%',
    ])
        expect(parsePlace(hash)).toEqual(nowhere)
})
