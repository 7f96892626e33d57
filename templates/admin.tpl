<%
# How the index is; at the root, the server. Besides root, asset and query (see layout.tpl):
#   look      .storage (None, or .projects, .files, .size, .free), .read (files read, of how many), .events (the newest
#             changes), .downloads, .most (pairs of a project and its downloads), .upstreams (.name, .address, .answered,
#             .failures, .open), .traffic (None, or a dict), .hits (None, or a part of one), .cache (None, or .size, .limit,
#             .entries), .uptime (seconds), .faults (sentences)
#   bars      the days of the chart, each with .x, .y, .height, .day and .count       chart     its width and height
#   others    other indexes that may be administered too, pairs of a name and a link  size      size(1000) is "1.0 kB"
#   moment    moment(seconds since 1970) is a datetime, or None
#   here, is_root (see admin-nav.tpl)         wrong     always empty
rebase("layout", title="Administration")
stamp = lambda when: when.strftime("%d %b %Y %H:%M") if when else ""
hours = int(look.uptime // 3600)
%>
<h1>Administration{{"" if is_root else " of " + index}}</h1>
% include("admin-nav")
% for fault in look.faults:
<p class="note" role="alert">{{fault[:1].upper() + fault[1:]}}.</p>
% end
<dl class="figures">
% if look.storage is not None:
  <div><dt>Projects</dt><dd>{{"{:,}".format(look.storage.projects)}}</dd></div>
  <div><dt>Files</dt><dd>{{"{:,}".format(look.storage.files)}}</dd></div>
  <div><dt>Storage</dt><dd>{{size(look.storage.size)}}
%   if look.storage.free is not None:
    <span class="quiet">{{size(look.storage.free)}} free</span>
%   end
  </dd></div>
% end
  <div><dt>Downloads in {{len(look.per_day)}} days</dt><dd>{{"{:,}".format(look.downloads)}}</dd></div>
% if look.cache is not None:
  <div><dt>Cache</dt><dd>{{size(look.cache.size)}}{{"" if look.cache.limit is None else " of " + size(look.cache.limit)}}</dd></div>
% end
% if look.hits is not None:
  <div><dt>Out of the cache</dt><dd>{{"{:.0f} %".format(100 * look.hits)}}</dd></div>
% end
  <div><dt>Running for</dt><dd>{{"{} d {} h".format(hours // 24, hours % 24) if hours >= 24 else "{} h {} min".format(hours, int(look.uptime // 60) % 60)}}</dd></div>
</dl>

<section aria-labelledby="downloads">
  <h2 id="downloads">Downloads</h2>
% if look.downloads:
  <svg class="chart" viewBox="0 0 {{chart[0]}} {{chart[1]}}" preserveAspectRatio="none" role="img" aria-label="Downloads a day, the last {{len(bars)}} days; the most were {{max(bar.count for bar in bars)}}">
%   for bar in bars:
    <rect x="{{bar.x}}" y="{{bar.y}}" width="{{round(chart[0] / len(bars) * .75, 2)}}" height="{{bar.height}}"><title>{{bar.day.strftime("%d %b")}}: {{bar.count}}</title></rect>
%   end
  </svg>
  <p class="quiet ends"><span>{{bars[0].day.strftime("%d %b %Y")}}</span> <span>{{bars[-1].day.strftime("%d %b %Y")}}</span></p>
  <details>
    <summary>By day</summary>
    <table>
      <thead><tr><th scope="col">Day</th><th scope="col">Downloads</th></tr></thead>
      <tbody>
%   for bar in bars:
        <tr><td>{{bar.day.strftime("%d %b %Y")}}</td><td>{{bar.count}}</td></tr>
%   end
      </tbody>
    </table>
  </details>
  <h3>Downloaded most</h3>
  <ol class="list counts">
%   for name, count in look.most:
    <li><a href="{{root}}project/{{name}}/">{{name}}</a> <span class="quiet">{{"{:,}".format(count)}}</span></li>
%   end
  </ol>
% else:
  <p class="quiet">None yet.</p>
% end
</section>

<section aria-labelledby="changes">
  <h2 id="changes">Newest changes</h2>
% include("events", events=look.events, is_root=is_root)
  <p><a href="{{root}}-/admin/trail">The whole audit trail</a></p>
</section>

% if look.upstreams:
<section aria-labelledby="upstreams">
  <h2 id="upstreams">Upstreams</h2>
  <ul class="list">
%   for one in look.upstreams:
    <li>
      <b>{{one.name}}</b> {{one.address}}
%     if one.open or one.failures:
      <b class="mark">{{"left alone for a moment" if one.open else "does not answer properly"}}, {{one.failures}} time{{"" if one.failures == 1 else "s"}} in a row</b>
%     end
      <span class="quiet">{{"last answered " + stamp(moment(one.answered)) + " UTC" if one.answered else "not asked since the start, or without an answer"}}</span>
    </li>
%   end
  </ul>
%   if look.traffic:
  <p>Since the start: {{"{:,}".format(look.traffic["requests"])}} request{{"" if look.traffic["requests"] == 1 else "s"}}, {{size(look.traffic["received"])}} fetched, {{size(look.traffic["saved"])}} saved.</p>
%   end
</section>
% end

<section aria-labelledby="jobs">
  <h2 id="jobs">In the background</h2>
  <p>{{"{:,}".format(look.read[0])}} of {{"{:,}".format(look.read[1])}} files read{{"." if look.read[0] >= look.read[1] else "; the others are being read, the newest first."}}</p>
</section>

% if others:
<section aria-labelledby="others">
  <h2 id="others">Other indexes</h2>
  <ul class="list">
%   for name, link in others:
    <li><a href="{{link}}">{{name}}</a></li>
%   end
  </ul>
</section>
% end
