<%
# Lines to copy.
#   commands   each with .tool (what it is for) and .text (the line)
%>
<dl class="lines">
% for command in commands:
  <div>
    <dt>{{command.tool}}</dt>
    <dd><pre data-copy>{{command.text}}</pre></dd>
  </div>
% end
</dl>
