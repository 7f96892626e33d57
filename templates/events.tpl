<%
# Events of the audit trail.
#   events    each with .when (a datetime), .who, .token, .address, .action, .index, .project, .version, .files (pairs of a
#             name and a digest), .outcome and .reason
#   is_root   whether they may be of several indexes
%>
% if events:
<ol class="list events">
%   for event in events:
  <li>
    <b>{{event.action}}</b>
%     if event.outcome != "done":
    <b class="mark">{{event.outcome}}</b>
%     end
    <bdi>{{" ".join(filter(None, (event.project, event.version)))}}</bdi>{{" in " + event.index if is_root and event.index and event.project else ""}}
    <span class="quiet"><time datetime="{{event.when.isoformat(timespec="seconds")}}">{{event.when.strftime("%d %b %Y %H:%M:%S")}}</time> · <bdi>{{event.who or "nobody"}}</bdi>{{" by the token " + event.token if event.token else ""}}{{" from " + event.address if event.address else ""}}</span>
%     if event.reason:
    <span class="quiet"><bdi>{{event.reason}}</bdi></span>
%     end
%     if event.files:
    <span class="quiet"><bdi>{{", ".join(name for name, _ in event.files)}}</bdi></span>
%     end
  </li>
%   end
</ol>
% else:
<p class="quiet">There are none.</p>
% end
