// SPDX-License-Identifier: Apache-2.0
'use strict';
/* What a ZooKeeper client expects, asked through an npm client, node-zookeeper-client.
 *
 *   node battery.js all HOSTS     every test: "ok NAME" or "FAILED NAME: why"
 *   node battery.js move HOSTS    holds a session; on a line from stdin it must still be the
 *                                 same session, on another server
 *
 * Its modules are looked for as node does it; NODE_PATH says where they are.
 */
const assert = require('assert');
const zookeeper = require('node-zookeeper-client');

const { CreateMode, Event, Exception, ACL, Id, Permission, State } = zookeeper;
const LIMIT_MS = 20000;
const hosts = process.argv[3];
let number = 0;

function limited(promise, what) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`waited ${LIMIT_MS} ms for ${what}`)),
            LIMIT_MS);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/* A session whose calls give promises: the data, or [data, stat] where there are two. */
class Session {
    static async open() {
        const s = new Session();
        s.client = zookeeper.createClient(hosts, { sessionTimeout: 6000, spinDelay: 100 });
        s.states = [];
        s.client.on('state', (state) => s.states.push(state));
        const connected = new Promise((resolve) => s.client.once('connected', resolve));
        s.client.connect();
        await limited(connected, `a connection to ${hosts}`);
        return s;
    }

    call(name, ...words) {
        return limited(new Promise((resolve, reject) => {
            this.client[name](...words, (error, ...found) => {
                if (error) {
                    reject(error);
                } else {
                    resolve(found.length > 1 ? found : found[0]);
                }
            });
        }), `the answer to ${name} ${words[0]}`);
    }

    create(path, data, mode, acl) {
        return this.call('create', path, data === null ? null : Buffer.from(data || ''),
            acl || ACL.OPEN_ACL_UNSAFE, mode === undefined ? CreateMode.PERSISTENT : mode);
    }

    set(path, data, version) {
        return this.call('setData', path, Buffer.from(data),
            version === undefined ? -1 : version);
    }

    get(path, watcher) {
        return this.call('getData', path, watcher || null);
    }

    exists(path, watcher) {
        return this.call('exists', path, watcher || null);
    }

    remove(path, version) {
        return this.call('remove', path, version === undefined ? -1 : version);
    }

    children(path, watcher) {
        return this.call('getChildren', path, watcher || null);
    }

    /* The client has no sync; a write of its own brings its server up to date. */
    async catchUp() {
        await this.remove(await this.create('/battery-node/sync-', '',
            CreateMode.EPHEMERAL_SEQUENTIAL));
    }

    async fresh() {
        await this.create('/battery-node').catch((e) => {
            if (e.getCode() !== Exception.NODE_EXISTS) {
                throw e;
            }
        });
        number += 1;
        return this.create(`/battery-node/${process.pid}-${number}`);
    }

    async close() {
        const over = new Promise((resolve) => this.client.once('disconnected', resolve));
        this.client.close();
        await limited(over, 'the end of the session');
    }

    async until(state) {
        const end = Date.now() + LIMIT_MS;
        while (!this.states.includes(state)) {
            assert(Date.now() < end, `waited ${LIMIT_MS} ms for ${state}`);
            await new Promise((resolve) => setTimeout(resolve, 10));
        }
    }
}

async function refuses(name, promise) {
    try {
        await promise;
    } catch (e) {
        if (!(e instanceof Exception)) {
            throw e;
        }
        assert.strictEqual(e.getCode(), Exception[name], `${e}, expected ${name}`);
        return;
    }
    assert.fail(`no ${name}`);
}

/* A watcher, and the promise of its event. */
function expecting() {
    let watcher;
    const event = new Promise((resolve) => {
        watcher = (e) => resolve(`${e.getName()} ${e.getPath()}`);
    });
    return [watcher, limited(event, 'an event')];
}

const tests = {
    async 'znodes'(s, at) {
        const x = `${at}/x`;
        assert.strictEqual(await s.create(x, 'one'), x);
        await refuses('NODE_EXISTS', s.create(x));
        await refuses('NO_NODE', s.create(`${at}/no/such`));
        let [data, stat] = await s.get(x);
        assert.strictEqual(data.toString(), 'one');
        assert.deepStrictEqual([stat.version, stat.dataLength, stat.numChildren], [0, 3, 0]);
        await refuses('BAD_VERSION', s.set(x, 'two', 4));
        assert.strictEqual((await s.set(x, 'two', 0)).version, 1);
        await s.create(`${x}/\u00fcml\u00e4ut`);
        const [names] = await s.children(x);
        assert.deepStrictEqual(names, ['\u00fcml\u00e4ut']);
        await refuses('NOT_EMPTY', s.remove(x));
        await s.call('removeRecursive', x, -1);
        assert.strictEqual(await s.exists(x), null);
        await s.call('mkdirp', `${at}/a/b/c`, null, null, null);
        [data, stat] = await s.get(`${at}/a/b`);
        assert.strictEqual(stat.numChildren, 1);
    },

    async 'sequences and ephemerals'(s, at) {
        for (let i = 0; i < 3; i += 1) {
            assert.strictEqual(await s.create(`${at}/n-`, '', CreateMode.PERSISTENT_SEQUENTIAL),
                `${at}/n-${String(i).padStart(10, '0')}`);
        }
        const other = await Session.open();
        await other.catchUp();
        await other.create(`${at}/e`, '', CreateMode.EPHEMERAL);
        await s.catchUp();
        const stat = await s.exists(`${at}/e`);
        assert(stat.ephemeralOwner.equals(other.client.getSessionId()), 'another owner');
        await refuses('NO_CHILDREN_FOR_EPHEMERALS', s.create(`${at}/e/x`));
        const [watcher, gone] = expecting();
        await s.exists(`${at}/e`, watcher);
        await other.close();
        assert.strictEqual(await gone, `NODE_DELETED ${at}/e`);
    },

    async 'watches'(s, at) {
        const x = `${at}/x`;
        const [a, created] = expecting();
        await s.exists(x, a);
        const [b, child] = expecting();
        await s.children(at, b);
        await s.create(x);
        assert.strictEqual(await created, `NODE_CREATED ${x}`);
        assert.strictEqual(await child, `NODE_CHILDREN_CHANGED ${at}`);
        const [c, changed] = expecting();
        await s.get(x, c);
        await s.set(x, '1');
        assert.strictEqual(await changed, `NODE_DATA_CHANGED ${x}`);
        const [d, deleted] = expecting();
        await s.get(x, d);
        await s.remove(x);
        assert.strictEqual(await deleted, `NODE_DELETED ${x}`);
    },

    async 'transactions'(s, at) {
        const x = `${at}/x`;
        const commit = (t) => limited(new Promise((resolve) => {
            t.commit((error, results) => resolve([error, results]));
        }), 'the transaction');
        let [error, results] = await commit(s.client.transaction().create(x, Buffer.from('1'))
            .setData(x, Buffer.from('2'), 0).check(x, 1));
        assert(!error, `${error}`);
        assert.strictEqual(results[0].path, x);
        assert.strictEqual(results[1].stat.version, 1);
        [error, results] = await commit(s.client.transaction().remove(x, -1)
            .remove(`${at}/nothing`, -1));
        assert.strictEqual(error.getCode(), Exception.NO_NODE);
        assert.strictEqual((await s.exists(x)).version, 1);
    },

    async 'access lists'(s, at) {
        const x = `${at}/x`;
        await refuses('INVALID_ACL', s.create(x, '', undefined, ACL.CREATOR_ALL_ACL));
        s.client.addAuthInfo('digest', Buffer.from('me:secret'));
        await s.create(x, '1', undefined, ACL.CREATOR_ALL_ACL);
        const [list, stat] = await s.call('getACL', x);
        assert.strictEqual(list.length, 1);
        assert.strictEqual(list[0].id.id, 'me:016djjlksVQS5RgX3M7biBGyYwY=');
        assert.strictEqual(stat.aversion, 0);
        const other = await Session.open();
        await other.catchUp();
        await refuses('NO_AUTH', other.get(x));
        await refuses('NO_AUTH', other.call('setACL', x, ACL.OPEN_ACL_UNSAFE, -1));
        other.client.addAuthInfo('digest', Buffer.from('me:secret'));
        await refuses('BAD_VERSION', other.call('setACL', x, ACL.OPEN_ACL_UNSAFE, 3));
        const open = [new ACL(Permission.READ, new Id('world', 'anyone'))];
        assert.strictEqual((await other.call('setACL', x, open, 0)).aversion, 1);
        await other.close();
        await s.catchUp();
        await refuses('NO_AUTH', s.set(x, ''));
        assert.strictEqual((await s.get(x))[0].toString(), '1');
    },

    async 'many in flight'(s, at) {
        const asked = [];
        for (let i = 0; i < 300; i += 1) {
            asked.push(s.create(`${at}/n-`, '', CreateMode.PERSISTENT_SEQUENTIAL));
        }
        (await Promise.all(asked)).forEach((name, i) => {
            assert.strictEqual(name, `${at}/n-${String(i).padStart(10, '0')}`);
        });
    },

    async 'goes on over a broken connection'(s, at) {
        await s.create(`${at}/e`, '', CreateMode.EPHEMERAL);
        const id = s.client.getSessionId();
        const [watcher, changed] = expecting();
        await s.get(at, watcher);
        s.states = [];
        s.client.connectionManager.socket.destroy();
        await s.until(State.SYNC_CONNECTED);
        assert(s.client.getSessionId().equals(id), 'another session');
        assert((await s.exists(`${at}/e`)).ephemeralOwner.equals(id), 'another owner');
        await s.set(at, '1');
        assert.strictEqual(await changed, `NODE_DATA_CHANGED ${at}`);
    },
};

async function runAll() {
    let failed = 0;
    for (const [name, test] of Object.entries(tests)) {
        try {
            const s = await Session.open();
            await test(s, await s.fresh());
            await s.close();
            console.log(`ok ${name}`);
        } catch (e) {
            failed = 1;
            const where = (e.stack || '').split('\n').find((l) => l.includes('battery.js')) || '';
            console.log(`FAILED ${name}: ${String(e.message || e).split('\n')[0]}`
                + ` (${where.trim()})`);
        }
    }
    process.exit(failed);
}

async function move() {
    const s = await Session.open();
    const at = await s.fresh();
    await s.create(`${at}/e`, '', CreateMode.EPHEMERAL);
    const id = s.client.getSessionId();
    const [watcher, changed] = expecting();
    changed.catch(() => { }); // it is waited for below, perhaps after its limit
    await s.get(at, watcher);
    const first = s.client.connectionManager.socket.remoteAddress;
    s.states = [];
    console.log(`on ${first}`);
    await new Promise((resolve) => process.stdin.once('data', resolve));
    await s.until(State.DISCONNECTED);
    await s.until(State.SYNC_CONNECTED);
    assert(s.client.getSessionId().equals(id), 'another session');
    assert((await s.exists(`${at}/e`)).ephemeralOwner.equals(id), 'another owner');
    await s.set(at, '1');
    assert.strictEqual(await changed, `NODE_DATA_CHANGED ${at}`);
    console.log(`moved to ${s.client.connectionManager.socket.remoteAddress}`);
    process.exit(0);
}

(process.argv[2] === 'all' ? runAll() : move()).catch((e) => {
    console.log(`FAILED ${e.message || e}`);
    process.exit(1);
});
